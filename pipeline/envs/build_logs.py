"""What a provider's tools say while they build, as a log of the run that waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.domain.runs import StageName
from pipeline.envs.books import Books
from pipeline.ports.logs import LogStore

Say = Callable[[bytes], None]


class BuildLogs:
    """Logs beside those of the deliver stage, called as the driver whose tools speak."""

    def __init__(self, books: Books, logs: LogStore, driver: str) -> None:
        self._books = books
        self._logs = logs
        self._driver = driver

    @contextmanager
    def hearing(self, owner: str) -> Iterator[Say]:
        """Keep what is said in the log of the run's attempt to deliver; nowhere when no run waits."""
        attempt = self._attempt(owner) if owner else 0
        if not attempt:
            yield _unheard
            return
        with self._logs.writer(owner, f"{StageName.DELIVER}-{attempt}.{self._driver}") as writer:
            yield writer.write

    def _attempt(self, owner: str) -> int:
        """The number of the run's last attempt to deliver; 0 when there is none."""
        loaded = self._books.runs.find(owner)
        return len(loaded.value.stage(StageName.DELIVER).attempts) if loaded is not None else 0


def _unheard(_piece: bytes) -> None:
    """An environment that nobody's run asked for has no log."""
