"""Directories as tar streams: written from this machine's files, and read from a node that is not trusted."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from pipeline.domain.errors import PermanentError, TooLarge, TransientError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_PIECE = 256 * 1024
_BLOCK = tarfile.BLOCKSIZE
#: The most entries that a fetched tree may have, and what the archive may need for each beside its content.
MAX_ENTRIES = 20_000
_ENTRY_OVERHEAD = 2 * 1024


def pack(source: str) -> Iterator[bytes]:
    """Yield the contents of a directory as a tar stream: files, directories and links, owned by root."""
    for path in _walk(Path(source)):
        info = _info(path, Path(source))
        if info is None:
            continue
        yield info.tobuf(tarfile.GNU_FORMAT)
        if info.isreg():
            yield from _content(path, info.size)
    yield bytes(2 * _BLOCK)


def unpack(pieces: Iterable[bytes], target: Path, *, limit_bytes: int, what: str) -> list[str]:
    """Write the regular files and directories of a tar stream below `target`; the relative names of the files.

    Errors: TooLarge, TransientError for a stream that ends too early, PermanentError for one that is no archive.
    """
    source = _Source(pieces, limit_bytes + MAX_ENTRIES * _ENTRY_OVERHEAD, what)
    names: list[str] = []
    left = limit_bytes
    try:
        with tarfile.open(fileobj=source, mode="r|", errorlevel=1) as archive:
            for number, member in enumerate(archive):
                left -= member.size if member.isreg() else 0
                if left < 0 or number >= MAX_ENTRIES:
                    raise _too_large(what, limit_bytes)
                if (name := _write(archive, member, target)) is not None:
                    names.append(name)
    except tarfile.ReadError as error:
        if source.ended:
            raise TransientError(f"{what}: the archive ends too early ({error})") from error
        raise PermanentError(f"{what}: the node sent no readable archive ({error})") from error
    except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
        raise PermanentError(f"{what}: the node sent one name as a file and as a directory ({error})") from error
    return names


def _walk(source: Path) -> Iterator[Path]:
    with os.scandir(source) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        yield Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


def _info(path: Path, source: Path) -> tarfile.TarInfo | None:
    found = path.lstat()
    info = tarfile.TarInfo(str(path.relative_to(source)))
    info.mtime = int(found.st_mtime)
    info.mode = found.st_mode & 0o777
    info.uname = info.gname = "root"
    if stat.S_ISREG(found.st_mode):
        info.size = found.st_size
    elif stat.S_ISDIR(found.st_mode):
        info.type = tarfile.DIRTYPE
    elif stat.S_ISLNK(found.st_mode):
        info.type, info.linkname = tarfile.SYMTYPE, str(path.readlink())
    else:
        return None
    return info


def _content(path: Path, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        left = size
        while left:
            piece = file.read(min(left, _PIECE))
            if not piece:
                raise TransientError(f"{path} became shorter while it was copied")
            left -= len(piece)
            yield piece
    yield bytes(-size % _BLOCK)


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str | None:
    """Write one member; its name when it is a file. A name that would leave the target is left out."""
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts or not name.parts:
        return None
    place = target.joinpath(*name.parts)
    if member.isdir():
        place.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        return None
    place.parent.mkdir(parents=True, exist_ok=True)
    # Only files and directories are ever made here, so that no link of the archive can lead out of the target.
    handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(handle, "wb") as file:
        while piece := content.read(_PIECE):
            file.write(piece)
    return str(name)


def _too_large(what: str, limit_bytes: int) -> TooLarge:
    return TooLarge(f"{what} is larger than {limit_bytes} bytes or has more than {MAX_ENTRIES} entries")


class _Source(io.RawIOBase):
    """The pieces as the file that tarfile reads from, with a bound on all that it may read."""

    def __init__(self, pieces: Iterable[bytes], limit_bytes: int, what: str) -> None:
        super().__init__()
        self._pieces = iter(pieces)
        self._held = b""
        self._left = limit_bytes
        self._limit = limit_bytes
        self._what = what
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        view = memoryview(buffer)
        if not self._held:
            self._held = self._next()
        data, self._held = self._held[: len(view)], self._held[len(view) :]
        view[: len(data)] = data
        return len(data)

    def _next(self) -> bytes:
        piece = next(self._pieces, b"")
        self.ended = self.ended or not piece
        self._left -= len(piece)
        if self._left < 0:
            raise _too_large(self._what, self._limit)
        return piece
