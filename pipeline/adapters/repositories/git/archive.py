"""Unpacks the tar stream of a commit; nothing of it may reach outside the target."""

from __future__ import annotations

import os
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pipeline.domain.errors import TooLarge, UserError

_CHUNK = 1 << 20


@dataclass
class Unpacker:
    """Writes files first and links last, so that no file is ever written through a link."""

    target: Path
    limit_bytes: int
    limit_files: int
    _bytes: int = 0
    _files: int = 0
    _links: dict[Path, str] = field(default_factory=dict)

    def unpack(self, stream: IO[bytes]) -> None:
        """Unpack all of it, or leave the target empty. Errors: UserError, TooLarge, tarfile.TarError."""
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                for member in tar:
                    self._take(tar, member)
            self._make_links()
        except (UserError, TooLarge, tarfile.TarError, OSError):
            self._empty()
            raise

    def _take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        path = self._place(member.name)
        self._count(member)
        if member.isdir():
            path.mkdir(parents=True, exist_ok=True)
        elif member.issym():
            self._links[path] = member.linkname
        elif member.isreg():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(tar, member, path)
        else:
            raise UserError(f"{member.name!r} in the commit is neither file, directory nor link")

    def _place(self, name: str) -> Path:
        parts = name.rstrip("/").split("/")
        if name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise UserError(f"the path {name!r} in the commit leads out of the tree")
        return self.target.joinpath(*parts)

    def _count(self, member: tarfile.TarInfo) -> None:
        self._files += 1
        self._bytes += member.size
        if self._files > self.limit_files:
            raise TooLarge(f"the commit has more than {self.limit_files} files")
        if self._bytes > self.limit_bytes:
            raise TooLarge(f"the commit's files have more than {self.limit_bytes} bytes")

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
        source = tar.extractfile(member)
        mode = 0o755 if member.mode & 0o100 else 0o644
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        except FileExistsError as error:
            raise UserError(f"the path {member.name!r} is in the commit twice") from error
        with os.fdopen(handle, "wb") as file:
            if source is not None:
                shutil.copyfileobj(source, file, _CHUNK)

    def _make_links(self) -> None:
        for path, destination in self._links.items():
            if destination.startswith("/"):
                raise UserError(self._leaves(path, destination))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.symlink_to(destination)
        root = os.path.realpath(self.target)
        for path, destination in self._links.items():
            if os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise UserError(self._leaves(path, destination))

    def _leaves(self, path: Path, destination: str) -> str:
        return f"the link {str(path.relative_to(self.target))!r} -> {destination!r} leads out of the tree; remove it"

    def _empty(self) -> None:
        for entry in self.target.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
