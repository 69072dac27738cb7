"""Requested environments get their places, in turn; the leading tick alone calls this."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from pipeline.domain import admission, waits
from pipeline.domain.admission import Use, Waiting
from pipeline.domain.blueprint import Priority
from pipeline.domain.durations import passed
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, UserError, VersionConflict
from pipeline.domain.placement import engine
from pipeline.domain.placement.explain import NEAR
from pipeline.domain.placement.model import Decision, Explanation, Infeasible, Placed, Unschedulable
from pipeline.domain.placement.requests import request_of, with_placement
from pipeline.domain.projects import Project, Quota
from pipeline.domain.rules import OperatorRule
from pipeline.domain.waits import Hindrance, Pace, Wait
from pipeline.envs import events, jobs
from pipeline.envs.books import Books, Loaded
from pipeline.envs.fleets import Fleets, Picture
from pipeline.envs.inventories import Inventories
from pipeline.envs.kept import Kept
from pipeline.envs.preemption import Later, Planned, Preemptions, make_room
from pipeline.envs.providers import Provider
from pipeline.envs.refusals import Key, Refusal, Refusals
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event, Fence, JobRequest, Put

log = logging.getLogger(__name__)
E = EnvironmentState
#: Reservations in one commit.
BATCH = 100
#: Seconds after which one look ends, with those that are left still to be looked at: the office must be renewed, and
#: runs and environments need the tick, too; and after which no more reasons are told.
LOOK_S, TELL_S = 2.0, 3.0
#: Seconds for which a request waits for room away from the machines where it failed; then it goes back to them.
AVOID_S = 60.0


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
    closed: dict[str, str] = field(default_factory=dict)
    short: set[str] = field(default_factory=set)
    lines: Counter[str] = field(default_factory=Counter)
    retry: set[str] = field(default_factory=set)

    def quota(self, project: str) -> Quota:
        known = self.projects.get(project)
        return Quota() if known is None else known.quota

    def rules(self, project: str) -> tuple[OperatorRule, ...]:
        known = self.projects.get(project)
        return () if known is None else known.rules

    def weight(self, project: str) -> float:
        known = self.projects.get(project)
        return 1.0 if known is None else known.weight


class Scheduler:
    """Reserves capacity before anything is built."""

    def __init__(
        self,
        books: Books,
        providers: Callable[[str], Provider],
        inventories: Inventories,
        preemptions: Preemptions,
        clock: Clock,
        provider_names: Sequence[str] = (),
    ) -> None:
        """`provider_names` are all whose environments count against quotas, whether anybody requests there or not."""
        self._books = books
        self._names = provider_names
        self._provider = providers
        self._inventories = inventories
        self._preemptions = preemptions
        self._clock = clock
        self._fleets = Fleets(books, inventories)
        self._fence: Fence | None = None
        self._requests = Kept(books.environments, "environments:requested")
        self._refusals = Refusals()
        self._paces: dict[str, Pace] = {}
        self._retired: set[str] = set()
        self._worth: dict[int, tuple[int, bool]] = {}

    def reserve(self, fence: Fence | None) -> list[Environment]:
        """Give places to what fits, reject what never fits; the environments that were rejected."""
        if not _goes_on(self._fence, fence):  # what another leader did meanwhile stands in the books alone
            self._fleets = Fleets(self._books, self._inventories)
            self._refusals = Refusals()
        self._fence = fence
        loaded = self._requests.everything()
        if not loaded:
            self._refusals.keep(())
            self._worth.clear()
            return []
        round_ = self._begin(fence, loaded)
        self._look(round_, BATCH)
        if round_.retry:
            again = [one for one in self._books.environments.many(sorted(round_.retry)) if _requested(one)]
            second = self._begin(fence, again)
            second.lines = round_.lines
            self._look(second, 1)
            round_.rejected += second.rejected
        self._refusals.keep(round_.requests.keys())
        return round_.rejected

    def waiting(self) -> Mapping[str, Environment]:
        """All requests as they are now, by id."""
        return {loaded.value.id: loaded.value for loaded in self._requests.everything()}

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
        shares = admission.shares_of(round_.uses, round_.weight)
        requests = [one.value for one in round_.requests.values()]
        used, idle = ([_waiting(one) for one in requests if one.unclaimed is kept] for kept in (False, True))
        turns = (admission.in_turn(waiting, shares, round_.now) for waiting in (used, idle))  # warm pools come last
        for turn in chain.from_iterable(turns):
            if passed(round_.now, self._clock.now(), LOOK_S):
                log.warning("not all of %d requests could be looked at in %.0f s", len(requests), LOOK_S)
                break
            self._answer(round_.requests[turn.id], round_)
            if len(round_.reserved) >= batch:
                self._commit(round_)
        self._commit(round_)
        self._tell(round_)

    def _answer(self, loaded: Loaded[Environment], round_: _Round) -> None:
        """A request that waited long enough is overtaken no more: its provider takes nobody else before it, but whom
        room was made for: that room is nobody else's.
        """
        environment = loaded.value
        gone = self._gone(environment.provider)
        if gone:
            return self._reject(loaded, round_, gone)
        if environment.provider in round_.closed and environment.nomination is None:
            first = round_.closed[environment.provider]
            why = f"{first} waits there for long, and nothing goes before it any more"
            return self._wait(loaded, round_, why, Hindrance.TURN)
        if environment.unclaimed and environment.provider in round_.short:
            return self._wait(loaded, round_, "others wait there for room, and warm pools come last", Hindrance.TURN)
        picture = self._fleets.kept(environment.provider)
        if environment.id in picture.known:
            return None  # another scheduler was quicker
        short = self._over_quota(environment, round_, picture)
        if short and not short[1] and self._free_quota(loaded, round_):
            return self._wait(loaded, round_, short[0], Hindrance.QUOTA)
        if short:
            if short[1] or (environment.priority is Priority.INTERACTIVE and _is_new(environment)):
                return self._reject(loaded, round_, short[0])
            return self._wait(loaded, round_, short[0], Hindrance.QUOTA)
        return self._place(loaded, round_, picture)

    def _over_quota(self, environment: Environment, round_: _Round, picture: Picture) -> tuple[str, bool] | None:
        """What is short, and whether it is short even with nothing else in use."""
        quota, wanted = round_.quota(environment.project), admission.use_of(environment)
        used = round_.uses.get(environment.project, Use())
        if environment.id in picture.nominated:
            used = used.plus(wanted, -1)  # the place that waits for it is its own
        alone = admission.over_quota(quota, Use(), wanted)
        now = alone or admission.over_quota(quota, used, wanted)
        return (now, bool(alone)) if now else None

    def _free_quota(self, loaded: Loaded[Environment], round_: _Round) -> bool:
        """Whether the project's own warm pools give back enough of its quota; those that are to go are told."""
        environment, quota = loaded.value, round_.quota(loaded.value.project)
        if environment.unclaimed:
            return False
        leaving = self._fleets.standing(self._retired)
        self._retired = set(leaving)
        idle = self._fleets.idle(environment.project)
        chosen: list[str] = []
        used = round_.uses.get(environment.project, Use()).plus(admission.total(leaving.values()), -1)
        for id in sorted(idle.keys() - leaving.keys()):
            if not admission.over_quota(quota, used, admission.use_of(environment)):
                break
            chosen.append(id)
            used = used.plus(idle[id], -1)
        if admission.over_quota(quota, used, admission.use_of(environment)):
            return False
        return not chosen or self._retire(chosen, loaded, round_)

    def _retire(self, chosen: Sequence[str], loaded: Loaded[Environment], round_: _Round) -> bool:
        """Tell them in one write; what changed meanwhile is looked at again."""
        if self._commit(round_):
            try:
                retired = self._preemptions.retire(chosen, loaded.value, round_.now)
                self._write(list(retired.puts), list(retired.events), [], round_)
            except GuardRefused as refused:
                log.info("environment %s waits for its quota: %s", loaded.value.id, refused)
                return True
            except VersionConflict:
                self._refresh(round_)
            else:
                self._retired |= retired.ids
                return True
        round_.retry.add(loaded.value.id)
        return True

    def _place(self, loaded: Loaded[Environment], round_: _Round, picture: Picture) -> None:
        environment = loaded.value
        refused = self._known_refusal(environment, round_, picture)
        if refused is not None:
            return self._refused(loaded, round_, refused)
        picture.step_aside(environment.id)
        room = admission.room_for(environment, picture.nodes, self._provider(environment.provider).max_nodes)
        if isinstance(room, admission.Infeasible):
            return self._reject(loaded, round_, room.reason)
        if isinstance(room, admission.Unschedulable):
            return self._no_room(loaded, round_, picture, room.reason)
        decision = _decide(environment, self._rules(environment, round_, picture), picture, round_.now)
        if isinstance(decision, Placed):
            return self._reserve(loaded, round_, picture, decision)
        if isinstance(decision, Infeasible):
            return self._reject(loaded, round_, str(decision.explanation))
        assert isinstance(decision, Unschedulable), "there are three answers"  # noqa: S101  # says it to the reader
        near = any(rules.near_service for rules in environment.rules.roles.values())
        if near and _without_service(decision.explanation):
            refusal = Refusal(
                _circumstances(environment, round_, picture), str(decision.explanation), Hindrance.SERVICE
            )
            return self._refuse(loaded, round_, picture, refusal)
        return self._no_room(loaded, round_, picture, str(decision.explanation))

    def _known_refusal(self, environment: Environment, round_: _Round, picture: Picture) -> Refusal | None:
        """Why it, or one like it, found no place before, where nothing has changed since; None when it is worth another
        look.
        """
        if self._is_vain(environment, round_.now, picture):
            return None
        key = self._key(environment, round_, picture)
        return self._refusals.find(key, _circumstances(environment, round_, picture), round_.now)

    def _key(self, environment: Environment, round_: _Round, picture: Picture) -> Key:
        """What has places waiting for it is like no other."""
        if environment.nomination is not None:
            return environment.id
        return self._refusals.kind(environment, self._rules(environment, round_, picture))

    def _refuse(self, loaded: Loaded[Environment], round_: _Round, picture: Picture, refusal: Refusal) -> None:
        self._refusals.note(self._key(loaded.value, round_, picture), refusal)
        self._refused(loaded, round_, refusal)

    def _refused(self, loaded: Loaded[Environment], round_: _Round, refusal: Refusal) -> None:
        if refusal.hindrance is Hindrance.SERVICE:
            return self._wait(loaded, round_, refusal.why, Hindrance.SERVICE)
        return self._hold_back(loaded, round_, refusal.why)

    def _rules(self, environment: Environment, round_: _Round, picture: Picture) -> tuple[OperatorRule, ...]:
        return (*round_.rules(environment.project), *picture.fleet.inventory.rules)

    def _is_vain(self, environment: Environment, now: float, picture: Picture) -> bool:
        """Whether it waits for places that it will not get: its victims stay after all, or take too long, or their
        machines take nothing any more.
        """
        nomination = environment.nomination
        if nomination is None:
            return False
        return not (picture.takes(nomination) and self._preemptions.may_come_true(environment, now))

    def _no_room(self, loaded: Loaded[Environment], round_: _Round, picture: Picture, reason: str) -> None:
        """Wait for the victims that were told to go, tell others, or just wait until something is freed."""
        environment, rules = loaded.value, self._rules(loaded.value, round_, picture)
        under = _circumstances(environment, round_, picture)
        if environment.nomination is not None and not self._is_vain(environment, round_.now, picture):
            picture.nominate(environment)
            return self._refuse(loaded, round_, picture, Refusal(under, make_room(environment)))
        max_nodes = self._provider(environment.provider).max_nodes
        planned = self._preemptions.plan(loaded, rules, picture, max_nodes, round_.now)
        if isinstance(planned, Planned):
            return self._preempt(loaded, round_, picture, planned)
        until = planned.at if isinstance(planned, Later) else math.inf
        return self._refuse(_without_nomination(loaded), round_, picture, Refusal(under, reason, until=until))

    def _preempt(self, loaded: Loaded[Environment], round_: _Round, picture: Picture, planned: Planned) -> None:
        """Tell the victims, and keep their places, in one write; what changed meanwhile is looked at again."""
        round_.short.add(loaded.value.provider)
        if not self._commit(round_):
            round_.retry.add(loaded.value.id)
            return None
        try:
            self._write(list(planned.puts), list(planned.events), [], round_)
        except VersionConflict:
            log.debug("environment %s looks for victims again: something changed meanwhile", loaded.value.id)
            round_.retry.add(loaded.value.id)
            return self._refresh(round_)
        picture.nominate(planned.environment)
        return self._count(planned.environment, round_)

    def _reserve(self, loaded: Loaded[Environment], round_: _Round, picture: Picture, decision: Placed) -> None:
        environment = loaded.value
        zones = {name: picture.fleet.zone_of(name) for names in decision.machines.values() for name in names}
        reserved = replace(environment.to(E.RESERVED, round_.now), nomination=None)
        placed = with_placement(reserved, decision, zones, round_.now, picture.inventory_version)
        picture.add(placed)
        if environment.nomination is None:  # else it counts already
            self._count(environment, round_)
        round_.reserved.append(_Answer(loaded, placed))
        if environment.wait is not None:
            line = _line(environment, environment.wait.hindrance)
            self._paces[line] = waits.paced(self._paces.get(line), environment.created_at, round_.now)

    def _count(self, environment: Environment, round_: _Round) -> None:
        use = round_.uses.get(environment.project, Use())
        round_.uses[environment.project] = use.plus(admission.use_of(environment))

    def _reject(self, loaded: Loaded[Environment], round_: _Round, reason: str) -> None:
        round_.told.append(_Answer(loaded, loaded.value.to(E.REJECTED, round_.now, reason)))

    def _hold_back(self, loaded: Loaded[Environment], round_: _Round, why: str) -> None:
        """Close the provider to all that follow, unless room that is kept free would never be enough."""
        environment = loaded.value
        if not environment.unclaimed:
            round_.short.add(environment.provider)
        old = round_.now - environment.created_at >= admission.OVERTAKE_S and not environment.unclaimed
        if old and self._worth_waiting(environment, round_):
            round_.closed[environment.provider] = environment.id
        self._wait(loaded, round_, why, Hindrance.ROOM)

    def _worth_waiting(self, environment: Environment, round_: _Round) -> bool:
        """Asked of the engine once for every kind of request and version of the inventory."""
        picture = self._fleets.kept(environment.provider)
        rules = self._rules(environment, round_, picture)
        kind = self._refusals.kind(environment, rules)
        version, worth = self._worth.get(kind, (-1, False))
        if version != picture.inventory_version:
            worth = engine.worth_waiting(picture.fleet, request_of(environment, rules))
            self._worth[kind] = (picture.inventory_version, worth)
        return worth

    def _wait(self, loaded: Loaded[Environment], round_: _Round, why: str, hindrance: Hindrance) -> None:
        """Say why it waits, at which position and about how long; not at every look.

        What waits for anything but room keeps none, and nobody goes for it.
        """
        loaded = loaded if hindrance in {Hindrance.ROOM, Hindrance.TURN} else _without_nomination(loaded)
        environment, line = loaded.value, _line(loaded.value, hindrance)
        round_.lines[line] += 1
        position = round_.lines[line]
        if environment.wait is not None and not passed(environment.told_at, round_.now, waits.tell_again_s(position)):
            return
        left = waits.estimate(self._paces.get(line), position, environment.created_at, round_.now)
        wait = Wait(position, hindrance, left)
        text = waits.told(wait, why)
        if text != environment.reason:
            told = replace(environment, reason=text, told_at=round_.now, wait=wait)
            round_.told.append(_Answer(loaded, told))

    def _commit(self, round_: _Round) -> bool:
        """All reservations since the last commit, under the ledger; what did not go through is looked at again, and
        the pictures are new then.
        """
        answers, round_.reserved = round_.reserved, []
        if not answers:
            return True
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
            return False
        return True

    def _refresh(self, round_: _Round) -> None:
        """The ledger first, then the pictures: what is reserved between the two makes another conflict, no mistake."""
        round_.ledger = self._inventories.ledger_version()
        for provider in sorted({*self._names, *(one.value.provider for one in round_.requests.values())}):
            if not self._gone(provider):
                self._fleets.current(provider, round_.now)
        self._fleets.keep_nominations(self._books.environments.everything("environments:nominated"))
        round_.uses = self._fleets.uses()

    def _write(self, puts: list[Put], told: list[Event], work: list[JobRequest], round_: _Round) -> None:
        ledger = self._inventories.ledger_put(round_.ledger)
        self._books.commit(*puts, ledger, events=told, jobs=work, fence=round_.fence)
        round_.ledger += 1

    def _put(self, answer: _Answer) -> Put:
        return self._books.environments.kind.put(answer.after.id, answer.after, answer.before.version)

    def _tell(self, round_: _Round) -> None:
        """Write rejections and reasons, one by one: none of them may hold up another, nor all of them the tick."""
        for answer in sorted(round_.told, key=lambda one: one.after.state is not E.REJECTED):
            if passed(round_.now, self._clock.now(), TELL_S):
                break
            try:
                self._books.commit(self._put(answer), events=_told(answer, round_.now), fence=round_.fence)
            except VersionConflict:
                log.debug("environment %s changed meanwhile; it is looked at again", answer.after.id)
                continue
            if answer.after.state is E.REJECTED:
                round_.rejected.append(answer.after)


def _goes_on(before: Fence | None, now: Fence | None) -> bool:
    """Whether nobody else led in between, also where the office ended for a moment during a look that took long: else
    all pictures would be made anew, which takes longer still.
    """
    if before is None or now is None:
        return before is now
    return before.office == now.office and now.epoch - before.epoch in {0, 1}


def _decide(environment: Environment, rules: tuple[OperatorRule, ...], picture: Picture, now: float) -> Decision:
    """Away from the machines where it failed, unless that can never be, or takes too long."""
    decision = engine.decide(picture.fleet, request_of(environment, rules), now)
    waited = _avoided_long(environment, now)
    if environment.avoid and (isinstance(decision, Infeasible) or (waited and not isinstance(decision, Placed))):
        return engine.decide(picture.fleet, request_of(replace(environment, avoid=()), rules), now)
    return decision


def _avoided_long(environment: Environment, now: float) -> bool:
    return bool(environment.avoid) and now - environment.state_since > AVOID_S


def _circumstances(environment: Environment, round_: _Round, picture: Picture) -> tuple[object, ...]:
    """All that a decision depends on besides the request, as far as it may turn a refusal into a place."""
    near = sorted({rules.near_service for rules in environment.rules.roles.values() if rules.near_service})
    zones = tuple(picture.fleet.zones_with(environment.project, service) for service in near)
    return picture.freed, _avoided_long(environment, round_.now), zones


def _is_new(environment: Environment) -> bool:
    """Whether it neither waited yet, nor had a place, nor had its run one: then a clear answer at once is best."""
    had = environment.placed_again or environment.preempted or environment.state_since > environment.created_at
    return environment.wait is None and not had


def _without_nomination(loaded: Loaded[Environment]) -> Loaded[Environment]:
    """Nobody makes room for it any more; it is told anew why it waits."""
    if loaded.value.nomination is None:
        return loaded
    return Loaded(replace(loaded.value, nomination=None, reason="", wait=None), loaded.version)


def _without_service(told: Explanation) -> bool:
    """Nothing but a service that stands nowhere is in the way. It is looked at every time, for the service may come,
    and nothing is kept free for it: the service itself might be behind it.
    """
    return bool(told.groups) and all(group.rule == NEAR for group in told.groups)


def _requested(loaded: Loaded[Environment]) -> bool:
    return loaded.value.state is E.REQUESTED


def _waiting(environment: Environment) -> Waiting:
    return Waiting(environment.id, environment.project, environment.priority, environment.created_at)


def _line(environment: Environment, hindrance: Hindrance) -> str:
    """Those that wait for the same: for one project's quota or services, or for one provider."""
    if hindrance in {Hindrance.QUOTA, Hindrance.SERVICE}:
        return f"{hindrance} of project {environment.project}"
    return f"provider {environment.provider}"


def _told(answer: _Answer, now: float) -> list[Event]:
    return events.of_environment(answer.before.value, answer.after, now)
