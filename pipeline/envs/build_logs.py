"""What a provider's tools say while they build and remove, as logs of the run that waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.domain.runs import StageRun
from pipeline.envs.books import Books
from pipeline.ports.logs import LogStore

Say = Callable[[bytes], None]


class BuildLogs:
    """Logs beside those of the run's stages, called as the driver whose tools speak."""

    def __init__(self, books: Books, logs: LogStore, driver: str) -> None:
        self._books = books
        self._logs = logs
        self._driver = driver

    @contextmanager
    def hearing(self, owner: str) -> Iterator[Say]:
        """Keep what is said in a log of the stage that the run has come to; nowhere when no run waits."""
        stage = self._stage(owner) if owner else None
        if stage is None:
            yield _unheard
            return
        with self._logs.writer(owner, f"{stage.name}-{len(stage.attempts)}.{self._driver}") as writer:
            yield writer.write

    def _stage(self, owner: str) -> StageRun | None:
        """The last stage that was begun."""
        loaded = self._books.runs.find(owner)
        stages = loaded.value.stages if loaded is not None else ()
        return next((stage for stage in reversed(stages) if stage.attempts), None)


def _unheard(_piece: bytes) -> None:
    """An environment that nobody's run asked for has no log."""
