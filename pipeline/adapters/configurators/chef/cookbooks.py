"""Cookbooks of the repository, completed by those that Greenroom ships."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from pipeline.adapters.configurators.chef.layout import REPOSITORY_DIRECTORIES
from pipeline.clients.checkout import inside
from pipeline.domain.errors import StageFailed

_NAME = re.compile(r"""^\s*name\s+['"]([^'"]+)['"]""", re.MULTILINE)
_RECIPE = re.compile(r"(?:recipe\[)?([^\]\[:@]+)(?:::[^\]@]+)?(?:@[^\]]+)?\]?")


def collect(source: str, path: str, shipped: str, target: Path) -> frozenset[str]:
    """Copy all cookbooks into `target`/cookbooks, and roles, data bags and environments beside; their names.

    `path` is a directory of cookbooks, or a Chef repository with a directory `cookbooks`. A shipped cookbook is
    taken only where the repository has none of its name.
    """
    names: set[str] = set()
    if (Path(source) / path).exists():
        names |= _collect_repository(Path(os.path.realpath(source)), inside(source, path), target)
    for name, book in _books(Path(shipped)).items():
        if name not in names:
            _copy(Path(shipped), book, target / "cookbooks" / name)
            names.add(name)
    return frozenset(names)


def check_run_list(run_list: tuple[str, ...], names: frozenset[str], path: str) -> None:
    """Refuse a run list that names a cookbook which is nowhere; StageFailed says which there are."""
    missing = sorted({name for name in map(cookbook_of, run_list) if name is not None} - names)
    if missing:
        known = ", ".join(sorted(names)) or "none"
        raise StageFailed(
            f"no cookbook {', '.join(missing)} in {path} or among the shipped ones (known: {known}): "
            "correct the run list, or add the cookbook; Berkshelf and Policyfiles are not read, vendor what they name"
        )


def cookbook_of(item: str) -> str | None:
    """The cookbook that an entry of a run list needs; None for a role."""
    match = _RECIPE.fullmatch(item.strip())
    return match[1] if match and not item.strip().startswith("role[") else None


def _collect_repository(source: Path, directory: Path, target: Path) -> set[str]:
    shelf = directory / "cookbooks"
    if not shelf.is_dir():
        return _copy_all(source, directory, target)
    for name in REPOSITORY_DIRECTORIES[1:]:
        if (directory / name).is_dir():
            _copy(source, directory / name, target / name)
    return _copy_all(source, shelf, target)


def _copy_all(source: Path, shelf: Path, target: Path) -> set[str]:
    books = _books(shelf)
    for name, book in books.items():
        _copy(source, book, target / "cookbooks" / name)
    return set(books)


def _books(shelf: Path) -> dict[str, Path]:
    """Cookbooks on a shelf by name: every directory with metadata."""
    found = {}
    for book in sorted(shelf.iterdir()) if shelf.is_dir() else ():
        if (book / "metadata.rb").is_file() or (book / "metadata.json").is_file():
            found[_name(book)] = book
    return found


def _name(book: Path) -> str:
    metadata = book / "metadata.rb"
    match = _NAME.search(metadata.read_text(errors="replace")) if metadata.is_file() else None
    name = match[1] if match else book.name
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in (".", ".."):
        raise StageFailed(f"cookbook {book.name} has the odd name {name!r}: use letters, digits, - and _")
    return name


def _copy(source: Path, tree: Path, target: Path) -> None:
    """Copy a directory with links followed, as long as they stay in the source."""
    real = Path(os.path.realpath(tree))
    _refuse_outside(source, tree)
    for directory, names, files in os.walk(real):
        names[:] = [name for name in names if name != ".git"]
        here = Path(directory)
        place = target / here.relative_to(real)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            _refuse_outside(source, here / name)
            shutil.copyfile(here / name, place / name)
        for name in names:
            if (here / name).is_symlink():
                raise StageFailed(
                    f"{(here / name).relative_to(real)} is a link to a directory inside a cookbook: copy it"
                )


def _refuse_outside(source: Path, path: Path) -> None:
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(source)):
        raise StageFailed(f"{path.relative_to(source)} is a link that leads out of the repository")
    if not path.exists():
        raise StageFailed(f"{path.relative_to(source)} is a link to nothing")
