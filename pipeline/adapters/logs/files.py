"""Logs and artifacts as files: `<root>/<run>/logs/<name>`, `<root>/<run>/artifacts/<path>`."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.domain.errors import NotFound, TransientError, UserError
from pipeline.domain.filenames import flat_name, relative_path
from pipeline.domain.masking import Mask
from pipeline.ports.logs import LogWriter, StoredFile

_PIECE = 256 * 1024
#: Names of the logs in the order of their making, one a line.
_ORDER = ".order"
#: Stands beside a log whose writer left it; no name of a log begins with a dot.
_COMPLETE = ".complete-"


class FileLogStore:
    """A `LogStore` in a directory that all processes of a deployment share."""

    def __init__(self, root: str) -> None:
        self._root = Path(root)

    @contextmanager
    def writer(self, run_id: str, name: str, secrets: Iterable[str] = ()) -> Iterator[LogWriter]:
        directory = self._logs(run_id)
        flat_name(name)
        _make(directory)
        (directory / f"{_COMPLETE}{name}").unlink(missing_ok=True)
        with _appending(directory / name) as handle:
            _append(directory / _ORDER, f"{name}\n".encode())
            writer = _FileLogWriter(handle, Mask(secrets))
            try:
                yield writer
            finally:
                writer.finish()
                (directory / f"{_COMPLETE}{name}").touch()

    def logs(self, run_id: str) -> Sequence[StoredFile]:
        directory = self._logs(run_id)
        try:
            names = dict.fromkeys((directory / _ORDER).read_text().splitlines())
        except FileNotFoundError:
            return ()
        return tuple(StoredFile(name, (directory / name).stat().st_size) for name in names)

    def read(self, run_id: str, name: str, offset: int, limit: int) -> bytes:
        path = self._logs(run_id) / flat_name(name)
        try:
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(limit)
        except FileNotFoundError as error:
            raise NotFound(f"run {run_id} has no log {name}") from error

    def complete(self, run_id: str, name: str) -> bool:
        return (self._logs(run_id) / f"{_COMPLETE}{flat_name(name)}").exists()

    def save_artifact(self, run_id: str, name: str, chunks: Iterable[bytes]) -> StoredFile:
        place = self._artifacts(run_id) / relative_path(name)
        fresh_place = self._run(run_id) / "incoming"
        _make(fresh_place)
        handle, fresh = tempfile.mkstemp(dir=fresh_place)
        try:
            size = _write_all(handle, chunks)
            place.parent.mkdir(parents=True, exist_ok=True)
            Path(fresh).replace(place)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise UserError(f"run {run_id}: artifact {name} is a file here and a directory there") from error
        finally:
            Path(fresh).unlink(missing_ok=True)
        return StoredFile(name, size)

    def artifacts(self, run_id: str) -> Sequence[StoredFile]:
        place = self._artifacts(run_id)
        files = (path for path in place.rglob("*") if path.is_file())
        found = (StoredFile(path.relative_to(place).as_posix(), path.stat().st_size) for path in files)
        return tuple(sorted(found, key=lambda file: file.name))

    def open_artifact(self, run_id: str, name: str) -> Iterator[bytes]:
        path = self._artifacts(run_id) / relative_path(name)
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    yield piece
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"run {run_id} has no artifact {name}") from error

    def delete(self, run_id: str) -> None:
        place = self._run(run_id)
        shutil.rmtree(place, ignore_errors=True)  # another process may be deleting it as well
        if place.exists():
            raise TransientError(f"{place} could not be deleted wholly; something still writes there")

    def _run(self, run_id: str) -> Path:
        return self._root / flat_name(run_id)

    def _logs(self, run_id: str) -> Path:
        return self._run(run_id) / "logs"

    def _artifacts(self, run_id: str) -> Path:
        return self._run(run_id) / "artifacts"


class _FileLogWriter:
    """Appends with single writes, so that two writers of one log could at worst take turns."""

    def __init__(self, handle: int, mask: Mask) -> None:
        self._handle = handle
        self._mask = mask

    def write(self, data: bytes) -> None:
        self._out(self._mask.take(data))

    def finish(self) -> None:
        self._out(self._mask.rest())

    def _out(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(self._handle, left) :]


def _make(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True, mode=0o750)


@contextmanager
def _appending(path: Path) -> Iterator[int]:
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        yield handle
    finally:
        os.close(handle)


def _append(path: Path, data: bytes) -> None:
    with _appending(path) as handle:
        os.write(handle, data)


def _write_all(handle: int, chunks: Iterable[bytes]) -> int:
    with os.fdopen(handle, "wb") as file:
        for chunk in chunks:
            file.write(chunk)
        return file.tell()
