"""Environments that were told to go: taken back when their grace is over, and their runs queued again."""

from __future__ import annotations

import logging
from dataclasses import replace

from pipeline.domain import runs
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, VersionConflict
from pipeline.domain.guards import Act
from pipeline.domain.runs import Run, RunState
from pipeline.envs import events, jobs
from pipeline.envs.books import Loaded
from pipeline.envs.gate import TICK, Asking
from pipeline.ports.stores import Event, JobRequest, Put
from pipeline.stages.context import Tools
from pipeline.stages.runner import save_run

log = logging.getLogger(__name__)


class Preempted:
    """The leading tick calls this."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._books = tools.books
        self._removals = tools.removals

    def noticed(self) -> list[str]:
        """Environments that were told to go, and are not gone."""
        return list(self._books.environments.ids("environments:noticed"))

    def settle(self, environment_id: str) -> None:
        """Lift a notice that nobody needs any more; carry out one whose grace is over."""
        loaded = self._books.environments.get(environment_id)
        environment = loaded.value
        if environment.notice is None:
            return
        try:
            if environment.state is EnvironmentState.HELD or not self._is_wanted(environment):
                self._lift(loaded, "nobody needs its room any more")
            elif environment.notice.at <= self._tools.clock.now():
                self._take_back(loaded)
        except VersionConflict:
            log.debug("environment %s changed meanwhile; it is looked at again", environment_id)

    def _is_wanted(self, environment: Environment) -> bool:
        """Whether who asked for its room still waits for it; a notice for the machine's sake stands by itself."""
        notice = environment.notice
        if notice is None or not notice.by:
            return notice is not None
        asker = self._books.environments.find(notice.by)
        if asker is None or asker.value.nomination is None:
            return False
        return asker.value.state is EnvironmentState.REQUESTED and environment.id in asker.value.nomination.victims

    def _lift(self, loaded: Loaded[Environment], why: str) -> None:
        stays = replace(loaded.value, notice=None)
        log.info("environment %s stays: %s", stays.id, why)
        put = self._books.environments.kind.put(stays.id, stays, loaded.version)
        self._books.commit(put, events=events.of_environment(loaded.value, stays, self._tools.clock.now()))

    def _take_back(self, loaded: Loaded[Environment]) -> None:
        environment, now = loaded.value, self._tools.clock.now()
        reason = f"preempted: {environment.notice.reason}" if environment.notice is not None else ""
        try:
            begun = self._removals.begin(environment, Asking(TICK, reason, again=True), act=Act.PREEMPT)
        except GuardRefused as refused:
            if not refused.passing:
                self._lift(loaded, str(refused))
            return
        going = begun.environment
        put = self._books.environments.kind.put(going.id, going, loaded.version)
        told = (*begun.events, *events.of_environment(environment, going, now))
        work = (jobs.advance(going, loaded.version), jobs.ADMIT)
        self._write(self._owner(environment), (put, *begun.writes), told, work, reason)

    def _owner(self, environment: Environment) -> Loaded[Run] | None:
        """The run that must begin again, if there is one that still needs it."""
        if environment.contract is not None:  # its requester was told of this one
            return None
        loaded = self._books.runs.find(environment.owner) if environment.owner else None
        if loaded is None or loaded.value.state not in {RunState.PENDING, RunState.RUNNING}:
            return None
        return loaded if loaded.value.environment_id == environment.id else None

    def _write(
        self,
        owner: Loaded[Run] | None,
        puts: tuple[Put, ...],
        told: tuple[Event, ...],
        work: tuple[JobRequest, ...],
        reason: str,
    ) -> None:
        if owner is None:
            self._books.commit(*puts, events=told, jobs=work)
            return
        again = runs.preempt(owner.value, self._tools.clock.now(), reason)
        save_run(self._tools, owner, again, puts, told, work)
