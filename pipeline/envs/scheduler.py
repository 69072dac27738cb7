"""Requested environments get their places, in turn; the leading tick alone calls this."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pipeline.domain import admission
from pipeline.domain.admission import Use, Waiting
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import UserError, VersionConflict
from pipeline.domain.placement import engine
from pipeline.domain.placement.model import Infeasible, Placed, Request, Unschedulable
from pipeline.domain.placement.requests import request_of, with_placement
from pipeline.domain.projects import Project, Quota
from pipeline.envs import events, jobs
from pipeline.envs.books import Books, Loaded
from pipeline.envs.fleets import Fleets, Picture
from pipeline.envs.inventories import Inventories
from pipeline.envs.lifecycle import Provider
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event, Fence, JobRequest, Put

log = logging.getLogger(__name__)
E = EnvironmentState
#: Reservations in one commit.
BATCH = 100
#: Seconds after which the words about a request that waits are brought up to date.
RETELL_S = 15.0


@dataclass(frozen=True)
class _Answer:
    """What becomes of one request: its next form, and what must happen with it."""

    before: Loaded[Environment]
    after: Environment


@dataclass
class _Round:
    """One look at all requests."""

    fence: Fence | None
    now: float
    projects: dict[str, Project]
    requests: dict[str, Loaded[Environment]]
    ledger: int = 0
    uses: dict[str, Use] = field(default_factory=dict)
    reserved: list[_Answer] = field(default_factory=list)
    told: list[_Answer] = field(default_factory=list)
    rejected: list[Environment] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    position: int = 0
    retry: set[str] = field(default_factory=set)

    def quota(self, project: str) -> Quota:
        known = self.projects.get(project)
        return Quota() if known is None else known.quota

    def weight(self, project: str) -> float:
        known = self.projects.get(project)
        return 1.0 if known is None else known.weight


class Scheduler:
    """Reserves capacity before anything is built."""

    def __init__(
        self, books: Books, providers: Callable[[str], Provider], inventories: Inventories, clock: Clock
    ) -> None:
        self._books = books
        self._provider = providers
        self._inventories = inventories
        self._clock = clock
        self._fleets = Fleets(books, inventories)
        self._refused: dict[str, int] = {}
        self._worth: dict[str, tuple[int, bool]] = {}

    def reserve(self, fence: Fence | None) -> list[Environment]:
        """Give places to what fits, reject what never fits; the environments that were rejected."""
        loaded = self._books.environments.everything("environments:requested")
        if not loaded:
            self._refused.clear()
            self._worth.clear()
            return []
        round_ = self._begin(fence, loaded)
        self._look(round_, BATCH)
        if round_.retry:
            again = [one for one in self._books.environments.many(sorted(round_.retry)) if _requested(one)]
            second = self._begin(fence, again)
            self._look(second, 1)
            round_.rejected += second.rejected
        self._refused = {id: freed for id, freed in self._refused.items() if id in round_.requests}
        self._worth = {id: known for id, known in self._worth.items() if id in round_.requests}
        return round_.rejected

    def _begin(self, fence: Fence | None, loaded: list[Loaded[Environment]]) -> _Round:
        names = sorted({one.value.project for one in loaded})
        projects = {one.value.name: one.value for one in self._books.projects.many(names)}
        requests = {one.value.id: one for one in loaded}
        round_ = _Round(fence, self._clock.now(), projects, requests)
        self._refresh(round_)
        return round_

    def _gone(self, provider: str) -> str:
        """Why there is no such provider (any more); empty when there is one."""
        try:
            self._provider(provider)
        except UserError as error:
            return str(error)
        return ""

    def _look(self, round_: _Round, batch: int) -> None:
        waiting = [_waiting(one.value) for one in round_.requests.values()]
        shares = self._fleets.share_of(round_.uses, round_.weight)
        for turn in admission.in_turn(waiting, shares, round_.now):
            round_.position += 1
            self._answer(round_.requests[turn.id], round_)
            if len(round_.reserved) >= batch:
                self._commit(round_)
        self._commit(round_)
        self._tell(round_)

    def _answer(self, loaded: Loaded[Environment], round_: _Round) -> None:
        """A request that waited long enough is overtaken no more: its provider takes nobody else before it."""
        environment = loaded.value
        gone = self._gone(environment.provider)
        if gone:
            return self._reject(loaded, round_, gone)
        if environment.provider in round_.closed:
            return None
        picture = self._fleets.kept(environment.provider)
        if environment.id in picture.known:
            return None  # another scheduler was quicker
        short = self._over_quota(environment, round_)
        if short:
            at_once = environment.priority is Priority.INTERACTIVE or short[1]
            return self._reject(loaded, round_, short[0]) if at_once else self._wait(loaded, round_, short[0])
        return self._place(loaded, round_, picture)

    def _over_quota(self, environment: Environment, round_: _Round) -> tuple[str, bool] | None:
        """What is short, and whether it is short even with nothing else in use."""
        quota, wanted = round_.quota(environment.project), admission.use_of(environment)
        alone = admission.over_quota(quota, Use(), wanted)
        now = alone or admission.over_quota(quota, round_.uses.get(environment.project, Use()), wanted)
        return (now, bool(alone)) if now else None

    def _place(self, loaded: Loaded[Environment], round_: _Round, picture: Picture) -> None:
        environment = loaded.value
        room = admission.room_for(environment, picture.nodes, self._provider(environment.provider).max_nodes)
        if isinstance(room, admission.Infeasible):
            return self._reject(loaded, round_, room.reason)
        if isinstance(room, admission.Unschedulable):
            return self._hold_back(loaded, round_, room.reason)
        request = request_of(environment, picture.fleet.inventory.rules)
        if self._refused.get(environment.id) == picture.freed:
            return self._hold_back(loaded, round_, "", request)
        due = not environment.reason or round_.now - environment.told_at >= RETELL_S
        decision = engine.decide(picture.fleet, request, round_.now, explain=due)
        if isinstance(decision, Placed):
            return self._reserve(loaded, round_, picture, decision)
        if isinstance(decision, Infeasible):
            return self._reject(loaded, round_, str(decision.explanation))
        assert isinstance(decision, Unschedulable), "there are three answers"  # noqa: S101  # says it to the reader
        self._refused[environment.id] = picture.freed
        return self._hold_back(loaded, round_, str(decision.explanation), request)

    def _reserve(self, loaded: Loaded[Environment], round_: _Round, picture: Picture, decision: Placed) -> None:
        environment = loaded.value
        zones = {name: picture.fleet.zone_of(name) for names in decision.machines.values() for name in names}
        placed = with_placement(environment.to(E.RESERVED, round_.now), decision, zones, round_.now)
        picture.add(placed)
        use = round_.uses.get(environment.project, Use())
        round_.uses[environment.project] = use.plus(admission.use_of(environment))
        round_.reserved.append(_Answer(loaded, placed))

    def _reject(self, loaded: Loaded[Environment], round_: _Round, reason: str) -> None:
        round_.told.append(_Answer(loaded, loaded.value.to(E.REJECTED, round_.now, reason)))

    def _hold_back(
        self, loaded: Loaded[Environment], round_: _Round, reason: str, request: Request | None = None
    ) -> None:
        """Close the provider to all that follow, unless room that is kept free would never be enough."""
        environment = loaded.value
        old = round_.now - environment.created_at >= admission.OVERTAKE_S
        if old and (request is None or self._worth_waiting(environment, request)):
            round_.closed.add(environment.provider)
        self._wait(loaded, round_, reason)

    def _worth_waiting(self, environment: Environment, request: Request) -> bool:
        """Asked of the engine once for every version of the inventory."""
        picture = self._fleets.kept(environment.provider)
        version, worth = self._worth.get(environment.id, (-1, False))
        if version != picture.inventory_version:
            worth = engine.worth_waiting(picture.fleet, request)
            self._worth[environment.id] = (picture.inventory_version, worth)
        return worth

    def _wait(self, loaded: Loaded[Environment], round_: _Round, reason: str) -> None:
        """Say why it waits, and at which position; not at every look."""
        environment = loaded.value
        said = environment.reason
        if said and (not reason or round_.now - environment.told_at < RETELL_S):
            return
        text = f"waits, position {round_.position} of {len(round_.requests)}: {reason}"
        if reason and text != said:
            round_.told.append(_Answer(loaded, replace(environment, reason=text, told_at=round_.now)))

    def _commit(self, round_: _Round) -> None:
        """All reservations since the last commit, under the ledger; what did not go through is looked at again."""
        answers, round_.reserved = round_.reserved, []
        if not answers:
            return
        puts = [self._put(answer) for answer in answers]
        told = [event for answer in answers for event in _told(answer, round_.now)]
        work = [jobs.advance(answer.after, answer.before.version) for answer in answers]
        try:
            self._write(puts, told, work, round_)
        except VersionConflict:
            log.debug("%d reservations are looked at again: something changed meanwhile", len(answers))
            for answer in answers:
                self._fleets.kept(answer.after.provider).remove(answer.after.id)
                round_.retry.add(answer.after.id)
            self._refresh(round_)

    def _refresh(self, round_: _Round) -> None:
        """The ledger first, then the pictures: what is reserved between the two makes another conflict, no mistake."""
        round_.ledger = self._inventories.ledger_version()
        for provider in sorted({one.value.provider for one in round_.requests.values()}):
            if not self._gone(provider):
                self._fleets.current(provider, round_.now)
        round_.uses = self._fleets.uses()

    def _write(self, puts: list[Put], told: list[Event], work: list[JobRequest], round_: _Round) -> None:
        ledger = self._inventories.ledger_put(round_.ledger)
        self._books.commit(*puts, ledger, events=told, jobs=work, fence=round_.fence)
        round_.ledger += 1

    def _put(self, answer: _Answer) -> Put:
        return self._books.environments.kind.put(answer.after.id, answer.after, answer.before.version)

    def _tell(self, round_: _Round) -> None:
        """Write rejections and reasons, one by one: none of them may hold up another."""
        for answer in round_.told:
            try:
                self._books.commit(self._put(answer), events=_told(answer, round_.now), fence=round_.fence)
            except VersionConflict:
                log.debug("environment %s changed meanwhile; it is looked at again", answer.after.id)
                continue
            if answer.after.state is E.REJECTED:
                round_.rejected.append(answer.after)


def _requested(loaded: Loaded[Environment]) -> bool:
    return loaded.value.state is E.REQUESTED


def _waiting(environment: Environment) -> Waiting:
    return Waiting(environment.id, environment.project, environment.priority, environment.created_at)


def _told(answer: _Answer, now: float) -> list[Event]:
    return events.of_environment(answer.before.value, answer.after, now)
