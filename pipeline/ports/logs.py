"""Logs and artifacts of runs, kept outside the store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol


class LogWriter(Protocol):
    """Appends to one log; flushed at each call, so that a reader sees it at once."""

    def write(self, data: bytes) -> None:
        """Append a piece of output; secrets that the writer was told of are written as `***`."""


@dataclass(frozen=True)
class StoredFile:
    """`name` is relative to its run, `size` in bytes."""

    name: str
    size: int


class LogStore(Protocol):
    """Log names are `<stage>-<attempt>` or `<stage>-<attempt>.<node>`; artifact names are relative paths.

    One writer a log, any number of readers. UserError for a name that leaves its run's place.
    """

    def writer(self, run_id: str, name: str, secrets: Iterable[str] = ()) -> AbstractContextManager[LogWriter]:
        """Open a log for appending; leaving marks it complete."""

    def logs(self, run_id: str) -> Sequence[StoredFile]:
        """All logs of a run, in the order of their making."""

    def read(self, run_id: str, name: str, offset: int, limit: int) -> bytes:
        """At most `limit` bytes from `offset`; empty at the end; NotFound when there is no such log."""

    def complete(self, run_id: str, name: str) -> bool:
        """Whether its writer left it."""

    def save_artifact(self, run_id: str, name: str, chunks: Iterable[bytes]) -> StoredFile:
        """Keep a file, whole or not at all; an older one of that name is replaced."""

    def artifacts(self, run_id: str) -> Sequence[StoredFile]:
        """All artifacts of a run, by name."""

    def open_artifact(self, run_id: str, name: str) -> Iterator[bytes]:
        """The content; NotFound when there is no such artifact."""

    def delete(self, run_id: str) -> None:
        """Forget all of a run."""
