"""Takes back what nobody uses any more, and finds what belongs to us but stands in no book.

What it finds in no book it judges by the end that the mark tells: so it sees to it that marks tell the right one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import CallsPaused, GuardRefused, InfraError, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.domain.moments import NEVER
from pipeline.domain.runs import RunState
from pipeline.envs import events, jobs, marks
from pipeline.envs.books import PAGE, Books, Loaded
from pipeline.envs.gate import TICK, Asking, Gate
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Begun, Removals
from pipeline.ports.common import Clock
from pipeline.ports.drivers import OwnedEnvironment
from pipeline.ports.stores import Put

log = logging.getLogger(__name__)
#: A leak must be seen twice, at least so far apart; a build whose record is still on its way is none.
SECOND_SIGHTING_S = 10.0
SIGHTING_TTL_S = 3600
#: Why what was adopted is protected, where its mark tells no end.
WAS_PROTECTED = "so it was in the books that are lost"


class Reaper:
    """Ends leases and holds, adopts orphans, removes leaks."""

    def __init__(
        self, books: Books, providers: Callable[[str], Provider], clock: Clock, gate: Gate, removals: Removals
    ) -> None:
        self._books = books
        self._provider = providers
        self._clock = clock
        self._gate = gate
        self._removals = removals
        self._looked_at = 0

    def overdue(self) -> list[tuple[Loaded[Environment], str]]:
        """Environments whose time is over, and why each is to be taken back; the protected ones stay."""
        due = self._books.environments.due("environments:ending", self._clock.now())
        over = self._affordable(one for one in due if not one.value.protected and not self._waits(one.value.owner))
        return [(one, f"its {one.value.state} time ended") for one in over]

    def _waits(self, run_id: str) -> bool:
        """Whether a run that took nodes over was not admitted yet; its lease is renewed then."""
        run = self._books.runs.find(run_id) if run_id else None
        return run is not None and run.value.state is RunState.PENDING

    def abandoned(self) -> list[tuple[Loaded[Environment], str]]:
        """Environments that are leased to a run which is over, since its destroy stage was given up.

        Where there are very many, each call looks at the next part of them: it is rare, and every lease ends anyway.
        """
        ids = self._books.store.index("environments:ending", limit=PAGE, offset=self._looked_at)
        self._looked_at = self._looked_at + PAGE if len(ids) == PAGE else 0
        timed = self._books.environments.many(ids)
        timed = [one for one in timed if not one.value.protected and one.value.contract is None]
        leased = [one for one in timed if one.value.state is EnvironmentState.LEASED]
        owners = self._books.runs.many(sorted({one.value.owner for one in leased if one.value.owner}))
        over = {loaded.value.id for loaded in owners if loaded.value.state is RunState.FINISHED}
        left = self._affordable(one for one in leased if one.value.owner in over)
        return [(one, f"its run {one.value.owner} is over") for one in left]

    def _affordable(self, environments: Iterable[Loaded[Environment]]) -> list[Loaded[Environment]]:
        """All of them, but of a provider whose budget is spent the first alone: it is enough to be refused once."""
        by_provider: dict[str, list[Loaded[Environment]]] = {}
        for one in environments:
            by_provider.setdefault(one.value.provider, []).append(one)
        return [one for name, some in by_provider.items() for one in (some if self._gate.left(name) else some[:1])]

    def take_back(self, environment_id: str, asking: Asking, *, given_back: bool = False) -> Environment:
        """Begin the end of an environment; once more changes nothing. GuardRefused says what is in the way.

        `given_back`: whoever holds it asks. A dry run passes the gate and changes nothing.
        """

        def once() -> Environment:
            return self.end(self._books.environments.get(environment_id), asking, given_back=given_back)

        return self._books.again(once)

    def end(self, loaded: Loaded[Environment], asking: Asking, *, given_back: bool = False) -> Environment:
        """The same for what was seen: VersionConflict when it changed meanwhile, and may be wanted again."""
        begun = self._removals.begin(loaded.value, asking, given_back=given_back)
        if begun.environment is not loaded.value:
            self._save(loaded, begun)
        elif begun.events:
            self._books.commit(events=begun.events)
        return begun.environment

    def _save(self, loaded: Loaded[Environment], begun: Begun) -> None:
        environment = begun.environment
        write = self._books.environments.kind.put(environment.id, environment, loaded.version)
        told = [*begun.events, *events.of_environment(loaded.value, environment, self._clock.now())]
        work = [jobs.ADMIT] if environment.final else [jobs.advance(environment, loaded.version)]
        self._books.commit(write, *begun.writes, events=told, jobs=work)

    def reap(self, provider_name: str) -> list[str]:
        """Compare what the provider has of ours with the books; the environment ids that were acted upon.

        Marks of those that stand in the books are brought up to date.
        """
        provider = self._provider(provider_name)
        acted: list[str] = []
        try:
            there = provider.driver.list().environments
            marks.renew(self._books, provider, there)
            leaks = (one for one in there if self._is_leak(one))
            acted.extend(one.environment_id for one in leaks if self._act_alone(provider, one))
        except CallsPaused as paused:  # what is asked for in vain must not use the budget up
            log.info("provider %s is reaped later: %s", provider_name, paused)
        return acted

    def _is_leak(self, owned: OwnedEnvironment) -> bool:
        known = self._books.environments.find(owned.environment_id)
        return known is None or known.value.final

    def _act_alone(self, provider: Provider, owned: OwnedEnvironment) -> bool:
        """Act on one of many: a leak that cannot be taken back must not keep the others."""
        try:
            return self._act(provider, owned)
        except CallsPaused:
            raise
        except (GuardRefused, InfraError, VersionConflict) as error:
            log.warning("environment %s: looked at again at the next reaping: %s", owned.environment_id, error)
            return False

    def _act(self, provider: Provider, owned: OwnedEnvironment) -> bool:
        if not self._seen_before(owned.environment_id):
            return False
        if self._books.environments.find(owned.environment_id) is None and owned.ends_at > self._clock.now():
            self._adopt(provider, owned)
        else:
            self._remove_leak(provider, owned.environment_id)
            log.warning("environment %s: leaked at %s, taken back", owned.environment_id, provider.name)
        return True

    def _remove_leak(self, provider: Provider, environment_id: str) -> None:
        known = self._books.environments.find(environment_id) is not None
        facts = Facts(who=TICK, provider=provider.name, known=known, sightings=2, now=self._clock.now())
        asking = Asking(TICK, f"leaked at {provider.name}", again=True)
        self._removals.at_once(provider.driver, Act.REAP, environment_id, facts, asking)

    def _seen_before(self, environment_id: str) -> bool:
        now = self._clock.now()
        sighting = self._books.store.get("sighting", environment_id)
        if sighting is None:
            self._books.commit(Put("sighting", environment_id, 0, {"at": now}, ttl_s=SIGHTING_TTL_S))
            return False
        return now - float(sighting.body["at"]) >= SECOND_SIGHTING_S

    def _adopt(self, provider: Provider, owned: OwnedEnvironment) -> None:
        now = self._clock.now()
        orphan = Environment(
            id=owned.environment_id,
            project="",
            service="",
            owner="",
            provider=provider.name,
            state=EnvironmentState.ADOPTED,
            nodes=(),
            priority=Priority.NIGHTLY,
            created_at=now,
            state_since=now,
            ends_at=owned.ends_at,
            protected=WAS_PROTECTED if owned.ends_at >= NEVER else "",
            reason="found at the provider with our mark, but in no book",
        )
        log.warning("environment %s: orphan at %s, adopted", orphan.id, provider.name)
        write = self._books.environments.kind.put(orphan.id, orphan, 0)
        self._books.commit(write, events=events.of_environment(None, orphan, now))
