"""What hangs about at a provider: looked for by a worker when somebody asks, kept, and read by anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from pipeline.domain.breakers import Call
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import InfraError, UserError
from pipeline.domain.leftovers import Known, Leftover, Thing, left_by, leftovers, sightings, since
from pipeline.envs import jobs
from pipeline.envs.books import LEFTOVERS, Books, LeftoverReport
from pipeline.envs.calls import Breakers
from pipeline.envs.providers import Provider
from pipeline.ports.clouds import Cloud
from pipeline.ports.common import Clock


class Leftovers:
    """Any number of processes at once; of two looks at one provider the later one stays."""

    def __init__(self, books: Books, providers: Callable[[str], Provider], clock: Clock, deployment: str) -> None:
        self._books = books
        self._provider = providers
        self._clock = clock
        self._deployment = deployment

    def ask(self, provider: str) -> None:
        """Let a worker look now; UserError when there is no such provider, or nothing to look at."""
        self._cloud(provider)
        self._books.commit(jobs=[jobs.leftovers(provider)])

    def last(self, provider: str) -> LeftoverReport:
        """What the last look found; an empty one before the first."""
        loaded = self._books.leftovers.find(provider)
        return LeftoverReport() if loaded is None else loaded.value

    def sightings(self, provider: str, environment_id: str) -> int:
        """How often it was seen that an environment left something: never, once, or at least twice."""
        report = self.last(provider)
        return sightings(report.found, environment_id, self._deployment, self._clock.now())

    def left_by(self, provider: str, environment_id: str) -> list[str]:
        """What was seen of an environment the last time, by kind, name and id."""
        found = left_by(self.last(provider).found, environment_id, self._deployment)
        return [f"{one.thing.kind} {one.thing.name} ({one.thing.id})" for one in found]

    def look(self, provider: str) -> None:
        """Look, and keep what was found. A failure is kept beside what was found before."""
        report = self.last(provider)
        try:
            Breakers(self._books, self._clock).check(provider, Call.LIST)
            report = self._made(provider, report.found)
        except (InfraError, UserError) as error:
            self._keep(provider, replace(report, tried_at=self._clock.now(), fault=str(error)))
            raise
        self._keep(provider, report)

    def _made(self, provider: str, before: Iterable[Leftover]) -> LeftoverReport:
        things = self._cloud(provider).things()
        at = self._clock.now()
        known = Known(self._deployment, provider, self._states(things))
        return LeftoverReport(at, at, "", since(leftovers(things, known), before, at))

    def _states(self, things: Sequence[Thing]) -> Mapping[str, EnvironmentState]:
        named = sorted({one.environment_id for one in things if one.deployment == self._deployment})
        return {one.value.id: one.value.state for one in self._books.environments.many(named)}

    def _cloud(self, provider: str) -> Cloud:
        found = self._provider(provider).cloud
        if found is None:
            raise UserError(f"provider {provider} shows nothing but its own nodes: its driver is not openstack")
        return found

    def _keep(self, provider: str, report: LeftoverReport) -> None:
        def once() -> None:
            self._books.commit(LEFTOVERS.put(provider, report, self._books.store_version(LEFTOVERS.name, provider)))

        self._books.again(once)
