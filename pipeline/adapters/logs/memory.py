"""Logs and artifacts in this process, for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.domain.errors import NotFound, UserError
from pipeline.domain.filenames import flat_name, relative_path
from pipeline.domain.masking import Mask
from pipeline.ports.logs import LogWriter, StoredFile


@dataclass
class _Run:
    logs: dict[str, bytearray] = field(default_factory=dict)
    complete: set[str] = field(default_factory=set)
    artifacts: dict[str, bytes] = field(default_factory=dict)


class MemoryLogStore:
    """The twin of `FileLogStore`. `broken`, when set, is what every call raises: the disk is full."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self.broken: Exception | None = None

    @contextmanager
    def writer(self, run_id: str, name: str, secrets: Iterable[str] = ()) -> Iterator[LogWriter]:
        run = self._of(run_id)
        kept = run.logs.setdefault(flat_name(name), bytearray())
        run.complete.discard(name)
        writer = _MemoryLogWriter(self, kept, Mask(secrets))
        try:
            yield writer
        finally:
            writer.finish()
            run.complete.add(name)

    def logs(self, run_id: str) -> Sequence[StoredFile]:
        return tuple(StoredFile(name, len(kept)) for name, kept in self._of(run_id).logs.items())

    def read(self, run_id: str, name: str, offset: int, limit: int) -> bytes:
        kept = self._of(run_id).logs.get(flat_name(name))
        if kept is None:
            raise NotFound(f"run {run_id} has no log {name}")
        return bytes(kept[offset : offset + limit])

    def complete(self, run_id: str, name: str) -> bool:
        return flat_name(name) in self._of(run_id).complete

    def save_artifact(self, run_id: str, name: str, chunks: Iterable[bytes]) -> StoredFile:
        kept = self._of(run_id).artifacts
        relative_path(name)
        content = b"".join(chunks)
        if any(other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in kept):
            raise UserError(f"run {run_id}: artifact {name} is a file here and a directory there")
        kept[name] = content
        return StoredFile(name, len(content))

    def artifacts(self, run_id: str) -> Sequence[StoredFile]:
        kept = self._of(run_id).artifacts
        return tuple(StoredFile(name, len(kept[name])) for name in sorted(kept))

    def open_artifact(self, run_id: str, name: str) -> Iterator[bytes]:
        content = self._of(run_id).artifacts.get(relative_path(name))
        if content is None:
            raise NotFound(f"run {run_id} has no artifact {name}")
        yield content

    def delete(self, run_id: str) -> None:
        self._of(run_id)
        self._runs.pop(run_id)

    def check(self) -> None:
        """Raise what is set to be raised."""
        if self.broken is not None:
            raise self.broken

    def _of(self, run_id: str) -> _Run:
        self.check()
        return self._runs.setdefault(flat_name(run_id), _Run())


class _MemoryLogWriter:
    def __init__(self, store: MemoryLogStore, kept: bytearray, mask: Mask) -> None:
        self._store = store
        self._kept = kept
        self._mask = mask

    def write(self, data: bytes) -> None:
        self._store.check()
        self._kept += self._mask.take(data)

    def finish(self) -> None:
        self._kept += self._mask.rest()
