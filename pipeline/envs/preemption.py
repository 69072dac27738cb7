"""Preemption: who is told to go, so that a guaranteed request gets its promise kept, and where that one will stand."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import preemption
from pipeline.domain.environments import LEAVING_STATES, Environment, EnvironmentState, Nomination, Notice, displace
from pipeline.domain.errors import GuardRefused
from pipeline.domain.moments import time_of_day
from pipeline.domain.placement.requests import request_of, with_placement
from pipeline.domain.rules import OperatorRule
from pipeline.envs import events
from pipeline.envs.books import Books, Loaded
from pipeline.envs.fleets import Picture
from pipeline.envs.gate import TICK, Asking, Gate
from pipeline.envs.notices import Notices
from pipeline.ports.stores import Event, Put

log = logging.getLogger(__name__)
E = EnvironmentState
#: Searches for one request at a time: some of those found may stay after all, being held or protected meanwhile.
TRIES = 10
#: Seconds after which a request that was not allowed to take anybody's place looks again.
RETRY_S = 5.0
#: Seconds for which one that was found to stay is not looked at again, by anybody.
STAYS_S = 60.0
#: Seconds after the end of the grace in which the victims must be gone; then the request looks for others.
GOING_S = 300.0


@dataclass(frozen=True)
class Planned:
    """The request with its nomination, and what must be written with it."""

    environment: Environment
    puts: tuple[Put, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Retired:
    """Environments of warm pools that go, and what must be written for that."""

    ids: frozenset[str]
    puts: tuple[Put, ...]
    events: tuple[Event, ...]


@dataclass(frozen=True)
class Later:
    """Nobody's place may be taken now: a guard refuses, or too many stay after all. Worth another look at `at`."""

    at: float


class Preemptions:
    """Plans who goes; one scheduler uses it."""

    def __init__(self, books: Books, gate: Gate, grace_s: float = preemption.GRACE_S) -> None:
        self._books = books
        self._notices = Notices(books, gate)
        self._grace_s = grace_s
        self._stays: dict[str, float] = {}

    def plan(
        self, loaded: Loaded[Environment], rules: Iterable[OperatorRule], picture: Picture, max_nodes: int, now: float
    ) -> Planned | Later | None:
        """Who goes for a request that found no room; None when it may take nobody's, or nobody's would help.

        `rules` are those of its project and of the operator.
        """
        environment = loaded.value
        goes = [one for one in picture.candidates.values() if preemption.may_take(environment, one)]
        if not goes:
            return None
        request = request_of(environment, rules)
        self._stays = {id: until for id, until in self._stays.items() if until > now}
        for _ in range(TRIES):
            candidates = [one for one in goes if one.id not in self._stays]
            room = max_nodes - picture.nodes
            found = preemption.preempt(picture.fleet, request, candidates, now, room, picture.leaving)
            if found is None or not found.victims:
                return None
            victims = self._books.environments.many(found.victims)
            stay = set(found.victims) - {one.value.id for one in victims if self._may_go(one.value, environment)}
            if not stay:
                return self._planned(loaded, victims, found, picture, now)
            self._stays |= dict.fromkeys(stay, now + STAYS_S)
        return Later(now + RETRY_S)

    def _may_go(self, environment: Environment, wanted_by: Environment) -> bool:
        """Whether it is a candidate as it stands in the books now, and no guard would refuse; asked in silence."""
        one = preemption.candidate(environment)
        if one is None or not preemption.may_take(wanted_by, one):
            return False
        return self._notices.may_be_given(environment, _asking(wanted_by))

    def _planned(
        self,
        loaded: Loaded[Environment],
        victims: Sequence[Loaded[Environment]],
        found: preemption.Preemption,
        picture: Picture,
        now: float,
    ) -> Planned | Later:
        ends = {victim.value.id: self._ends(victim.value, now) for victim in victims}
        at, asking = max(ends.values()), _asking(loaded.value)
        try:
            given = [
                self._notices.give(
                    victim, _told_to_go(victim.value, loaded.value, ends[victim.value.id], now), asking, now
                )
                for victim in victims
            ]
        except GuardRefused as error:
            log.warning("environment %s: takes nobody's place: %s", loaded.value.id, error)
            return Later(now + RETRY_S)
        nominated = _nominated(loaded.value, found, picture, at, now)
        picture.leaving.update(found.victims)
        put = self._books.environments.kind.put(nominated.id, nominated, loaded.version)
        told = [event for one in given for event in one.events]
        told += events.of_environment(loaded.value, nominated, now)
        return Planned(nominated, (put, *(one.put for one in given)), tuple(told))

    def retire(self, idle: Iterable[str], wanted_by: Environment, now: float) -> Retired:
        """Tell environments of warm pools to go at once, whose project needs their part of its quota for itself."""
        asking = Asking(TICK, f"{_named(wanted_by)} needs its part of the quota", again=True)
        found = [one for one in self._books.environments.many(sorted(idle)) if one.value.unclaimed]
        given = [self._notices.give(one, _retired(one.value, asking.why, now), asking, now) for one in found]
        told = [event for one in given for event in one.events]
        return Retired(frozenset(one.value.id for one in found), tuple(one.put for one in given), tuple(told))

    def _ends(self, victim: Environment, now: float) -> float:
        """When a victim goes: what nobody uses needs no grace."""
        return now if victim.unclaimed else now + self._grace_s

    def may_come_true(self, environment: Environment, now: float) -> bool:
        """Whether a nomination is still worth waiting for: some victim is on its way out, and none stays after all."""
        nomination = environment.nomination
        if nomination is None or now >= nomination.until:
            return False
        victims = [one.value for one in self._books.environments.many(nomination.victims)]
        return any(_goes(one, environment.id) for one in victims) and not any(map(_stays, victims))


def _asking(wanted_by: Environment) -> Asking:
    return Asking(TICK, f"{_named(wanted_by)} needs its room", again=True)


def _named(wanted_by: Environment) -> str:
    firm = "guaranteed " if preemption.may_preempt(wanted_by) else ""
    return f"{firm}environment {wanted_by.id} of project {wanted_by.project}"


def _nominated(
    environment: Environment, found: preemption.Preemption, picture: Picture, at: float, now: float
) -> Environment:
    """Its nodes know already what they will stand apart from: nobody else may be put beside them meanwhile."""
    zones = {name: picture.fleet.zone_of(name) for names in found.placed.machines.values() for name in names}
    there = with_placement(environment, found.placed, zones, now)
    machines = {node.name: node.machine for node in there.nodes}
    waits = environment.with_nodes(replace(node, machine="", zone="") for node in there.nodes)
    waiting = replace(waits, nomination=Nomination(machines, found.victims, at + GOING_S), told_at=now)
    return replace(waiting, reason=f"{make_room(waiting)}; they have until {time_of_day(at)}")


def make_room(environment: Environment) -> str:
    """What a nominated request waits for; empty for any other."""
    nomination = environment.nomination
    return "" if nomination is None else f"{', '.join(nomination.victims)} make room for it"


def _told_to_go(victim: Environment, wanted_by: Environment, at: float, now: float) -> Environment:
    """Nothing is built of a mere reservation: it waits again at once. Everything else has its time of grace."""
    why = f"{_named(wanted_by)} takes its room"
    if victim.state is E.RESERVED:
        return replace(displace(victim, now, f"placed again later: {why}"), preempted=victim.preempted + 1)
    return replace(victim, notice=Notice(at, wanted_by.id, why))


def _retired(idle: Environment, why: str, now: float) -> Environment:
    if idle.state is E.RESERVED:
        return displace(idle, now, f"placed again later: {why}")
    return replace(idle, notice=Notice(now, "", why)) if idle.notice is None else idle


def _goes(victim: Environment, by: str) -> bool:
    told = victim.notice is not None and victim.notice.by == by
    return victim.state is E.DESTROYING or (told and victim.state is not E.HELD and not victim.final)


def _stays(victim: Environment) -> bool:
    """Nothing is taken from one that is held or protected by now."""
    return victim.state is E.HELD or (bool(victim.protected) and victim.state not in LEAVING_STATES)
