"""A `clouds.yaml`, as OpenStack's own tools read it: an entry is added, and nobody else may read the file."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from pipeline.cli.output import FAILED, Complaint


def check(file: Path) -> None:
    """Complaint when no entry can be written there: asked before there is one, whose secret is told once."""
    _read(file)
    if not file.parent.is_dir():
        raise Complaint(f"there is no directory {file.parent} for {file.name}: make it first", FAILED)
    try:
        tempfile.TemporaryFile(dir=file.parent).close()
    except OSError as error:
        raise Complaint(f"{file.parent} takes no new file, as {file.name} would be: {error.strerror}", FAILED) from None


def add(file: Path, name: str, entry: Mapping[str, object]) -> None:
    """Write an entry, in the place of an earlier one of its name; mode 0600, in one step. Complaint when it is not."""
    content = _read(file)
    content["clouds"][name] = dict(entry)
    try:
        _write(file, content)
    except OSError as error:
        text = (
            f"entry {name} is not written to {file}: {error.strerror}; its secret is told once: --renew makes another"
        )
        raise Complaint(text, FAILED) from None


def _write(file: Path, content: Mapping[str, object]) -> None:
    from ruamel.yaml import YAML

    handle, made = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # of mode 0600
    try:
        with os.fdopen(handle, "w") as there:
            YAML().dump(content, there)
        Path(made).replace(file)
    except BaseException:
        Path(made).unlink()
        raise


def _read(file: Path) -> dict[str, dict[str, object]]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML().load(file) if file.exists() else None
    except (YAMLError, OSError) as error:
        raise Complaint(f"{file} cannot be read as a clouds.yaml: {type(error).__name__}", FAILED) from None
    content = {} if content is None else content
    if not isinstance(content, dict):
        raise Complaint(f"{file} is no clouds.yaml: it has no mapping at its top", FAILED)
    if content.get("clouds") is None:  # not there, or nothing behind it
        content["clouds"] = {}
    if not isinstance(content["clouds"], dict):
        raise Complaint(f"{file} is no clouds.yaml: `clouds` is no mapping in it", FAILED)
    return content
