"""Requested environments get room, in order; the leading tick alone calls this."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from pipeline.domain import admission
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import UserError, VersionConflict
from pipeline.envs import events, jobs
from pipeline.envs.books import Books, Loaded
from pipeline.envs.lifecycle import Provider
from pipeline.ports.common import Clock
from pipeline.ports.stores import Fence

log = logging.getLogger(__name__)


@dataclass
class _Round:
    """One look at all requests: what stands at each provider, who is full, and whom nothing will ever fit."""

    fence: Fence
    standing: dict[str, list[Environment]] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    rejected: list[Environment] = field(default_factory=list)


class Scheduler:
    """Reserves capacity before anything is built."""

    def __init__(self, books: Books, providers: Callable[[str], Provider], clock: Clock) -> None:
        self._books = books
        self._provider = providers
        self._clock = clock

    def reserve(self, fence: Fence) -> list[Environment]:
        """Give room to what fits, reject what never fits; the environments that were rejected."""
        round_ = _Round(fence)
        for loaded in self._books.environments.everything("environments:requested"):
            if loaded.value.provider in round_.full:
                continue
            try:
                self._answer(loaded, round_)
            except VersionConflict:
                log.debug("environment %s changed meanwhile; it is looked at again", loaded.value.id)
        return round_.rejected

    def _answer(self, loaded: Loaded[Environment], round_: _Round) -> None:
        """Nothing of a provider's queue overtakes the first request that does not fit: it would starve."""
        answer = self._room(loaded.value, round_)
        if isinstance(answer, admission.Fits):
            reserved = self._to(loaded, EnvironmentState.RESERVED, "", round_.fence)
            round_.standing[reserved.provider].append(reserved)
        elif isinstance(answer, admission.Infeasible):
            round_.rejected.append(self._to(loaded, EnvironmentState.REJECTED, answer.reason, round_.fence))
        else:
            round_.full.add(loaded.value.provider)

    def _room(
        self, wanted: Environment, round_: _Round
    ) -> admission.Fits | admission.Unschedulable | admission.Infeasible:
        try:
            provider = self._provider(wanted.provider)
        except UserError as error:  # it was taken out of the settings meanwhile
            return admission.Infeasible(str(error))
        if provider.name not in round_.standing:
            standing = self._books.environments.everything(f"environments:standing:{provider.name}")
            round_.standing[provider.name] = [loaded.value for loaded in standing]
        return admission.room_for(wanted, round_.standing[provider.name], provider.max_nodes)

    def _to(self, loaded: Loaded[Environment], state: EnvironmentState, reason: str, fence: Fence) -> Environment:
        now = self._clock.now()
        environment = loaded.value.to(state, now, reason)
        write = self._books.environments.kind.put(environment.id, environment, loaded.version)
        work = [jobs.advance(environment, loaded.version)] if state is EnvironmentState.RESERVED else []
        told = events.of_environment(loaded.value, environment, now)
        self._books.commit(write, events=told, jobs=work, fence=fence)
        return environment
