"""Requested environments get room, in order; the leading tick alone calls this."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.domain import admission
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import UserError, VersionConflict
from pipeline.envs import events, jobs
from pipeline.envs.books import Books, Loaded
from pipeline.envs.lifecycle import Provider
from pipeline.ports.common import Clock
from pipeline.ports.stores import Fence

#: Requests looked at in one round.
ROUND = 200


class Scheduler:
    """Reserves capacity before anything is built."""

    def __init__(self, books: Books, providers: Callable[[str], Provider], clock: Clock) -> None:
        self._books = books
        self._provider = providers
        self._clock = clock

    def reserve(self, fence: Fence) -> list[Environment]:
        """Give room to what fits, reject what never fits; the environments that were rejected."""
        requested = self._books.environments.in_index("environments:requested", limit=ROUND)
        full: set[str] = set()
        rejected: list[Environment] = []
        for loaded in requested:
            if loaded.value.provider in full:
                continue
            try:
                self._answer(loaded, full, rejected, fence)
            except VersionConflict:
                continue  # withdrawn meanwhile, or changed and looked at again in the next round
        return rejected

    def _answer(self, loaded: Loaded[Environment], full: set[str], rejected: list[Environment], fence: Fence) -> None:
        """Nothing of a provider's queue overtakes the first request that does not fit: it would starve."""
        answer = self._room(loaded.value)
        if isinstance(answer, admission.Fits):
            self._to(loaded, EnvironmentState.RESERVED, "", fence)
        elif isinstance(answer, admission.Infeasible):
            rejected.append(self._to(loaded, EnvironmentState.REJECTED, answer.reason, fence))
        else:
            full.add(loaded.value.provider)

    def _room(self, wanted: Environment) -> admission.Fits | admission.Unschedulable | admission.Infeasible:
        try:
            provider = self._provider(wanted.provider)
        except UserError as error:  # it was taken out of the settings meanwhile
            return admission.Infeasible(str(error))
        standing = self._books.environments.in_index(f"environments:standing:{wanted.provider}")
        return admission.room_for(wanted, (loaded.value for loaded in standing), provider.max_nodes)

    def _to(self, loaded: Loaded[Environment], state: EnvironmentState, reason: str, fence: Fence) -> Environment:
        now = self._clock.now()
        environment = loaded.value.to(state, now, reason)
        write = self._books.environments.kind.put(environment.id, environment, loaded.version)
        work = [jobs.advance(environment, loaded.version)] if state is EnvironmentState.RESERVED else []
        told = events.of_environment(loaded.value, environment, now)
        self._books.commit(write, events=told, jobs=work, fence=fence)
        return environment
