"""Retention: what is over is forgotten after a while, with its logs, reports and events."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.domain.errors import InfraError, InvalidTransition
from pipeline.envs.books import Books, Loaded
from pipeline.ports.common import Clock
from pipeline.ports.logs import LogStore
from pipeline.ports.stores import Delete
from pipeline.ports.workspaces import Workspaces

log = logging.getLogger(__name__)
DAY_S = 86_400.0
#: A scratch directory that nobody touched for so long was left by a worker that died.
SCRATCH_S = 2 * DAY_S


class Retention:
    """Forgets runs, environments and triggers that were over `keep_days` days ago; may be called twice at once."""

    def __init__(self, books: Books, logs: LogStore, workspaces: Workspaces, clock: Clock, keep_days: float) -> None:
        self._books = books
        self._logs = logs
        self._workspaces = workspaces
        self._clock = clock
        self._keep_s = keep_days * DAY_S

    def forget_old(self) -> None:
        """Forget all that is old; what cannot be forgotten now is said, and tried again the next time."""
        self._workspaces.sweep(SCRATCH_S)
        books = self._books
        for index, find, forget in (
            ("runs:finished", books.runs.due, self._forget_run),
            ("environments:final", books.environments.due, self._forget_environment),
            ("triggers:settled", books.triggers.due, self._forget(books.triggers.kind.name)),
        ):
            while self._forget_some(find(index, self._clock.now() - self._keep_s), forget):
                pass

    def _forget_some(self, old: Sequence[Loaded[Any]], forget: Callable[[Loaded[Any]], None]) -> int:
        """How many were forgotten."""
        done = 0
        for loaded in old:
            try:
                forget(loaded)
            except (InfraError, InvalidTransition) as error:
                log.warning("%s is kept until the next time: %s", loaded.value.id, error)
            else:
                done += 1
        return done

    def _forget(self, kind: str) -> Callable[[Loaded[Any]], None]:
        return lambda loaded: self._books.commit(Delete(kind, loaded.value.id, loaded.version))

    def _forget_environment(self, loaded: Loaded[Any]) -> None:
        """The output of commands on it goes first, as a run's files do."""
        self._logs.delete(loaded.value.id)
        self._forget(self._books.environments.kind.name)(loaded)

    def _forget_run(self, loaded: Loaded[Any]) -> None:
        """Its files go first: as long as its document stands, they are found again."""
        id, environment = loaded.value.id, self._books.environments.find(loaded.value.environment_id)
        if environment is not None and not environment.value.final:
            raise InvalidTransition(f"environment {environment.value.id} is still {environment.value.state}")
        self._logs.delete(id)
        names = self._books.store.index(f"reports:{id}")
        reports = self._books.store.get_many(self._books.reports.kind.name, names)
        deletes = [Delete(report.kind, report.id, report.version) for report in reports]
        self._books.commit(*deletes, Delete(self._books.runs.kind.name, id, loaded.version))
