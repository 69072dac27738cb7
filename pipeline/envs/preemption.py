"""Notices: best-effort environments are told that they go, so that a guaranteed request gets its promise kept."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipeline.domain import preemption
from pipeline.domain.environments import Environment, EnvironmentState, Nomination, Notice, displace
from pipeline.domain.errors import GuardRefused
from pipeline.domain.guards import Act, Facts, Refused, judge
from pipeline.domain.placement.requests import request_of, with_placement
from pipeline.envs import events
from pipeline.envs.books import Books, Loaded
from pipeline.envs.fleets import Picture
from pipeline.envs.gate import BUDGET, Asking, Gate
from pipeline.envs.reaper import TICK
from pipeline.ports.stores import Event, Put

log = logging.getLogger(__name__)
E = EnvironmentState
#: Seconds after the end of the grace in which the victims must be gone; then the request looks for others.
GOING_S = 300.0


@dataclass(frozen=True)
class Planned:
    """The request with its nomination, and what must be written with it."""

    environment: Environment
    puts: tuple[Put, ...]
    events: tuple[Event, ...]


class Preemptions:
    """Plans who goes; one scheduler uses it."""

    def __init__(self, books: Books, gate: Gate, grace_s: float = preemption.GRACE_S) -> None:
        self._books = books
        self._gate = gate
        self._grace_s = grace_s
        self._in_vain: dict[str, int] = {}

    def plan(self, loaded: Loaded[Environment], picture: Picture, max_nodes: int, now: float) -> Planned | None:
        """Who goes for a request that found no room; None when it may take nobody's, or nobody's would help."""
        environment = loaded.value
        if not preemption.may_preempt(environment) or self._in_vain.get(environment.id) == picture.freed:
            return None
        standing = {one.value.id: one for one in self._books.environments.many(sorted(picture.best_effort))}
        candidates = [self._candidate(one.value, environment, now) for one in standing.values()]
        request = request_of(environment, picture.fleet.inventory.rules)
        room = max_nodes - picture.nodes
        found = preemption.preempt(picture.fleet, request, [one for one in candidates if one], now, room)
        if found is None or not found.victims:
            self._in_vain[environment.id] = picture.freed
            return None
        victims = [standing[id] for id in found.victims]
        return self._planned(loaded, victims, found, picture, now)

    def _candidate(self, environment: Environment, wanted_by: Environment, now: float) -> preemption.Candidate | None:
        """A candidate that no guard would refuse; asked in silence, since most of them will never be victims."""
        facts = self._facts(environment, wanted_by)
        if isinstance(judge(Act.PREEMPT, replace(facts, now=now)), Refused):
            return None
        return preemption.candidate(environment)

    def _facts(self, environment: Environment, wanted_by: Environment) -> Facts:
        facts = self._gate.facts_of(environment, _asking(wanted_by))
        return replace(facts, spent=self._gate.spent(environment.provider), budget=BUDGET)

    def _planned(
        self,
        loaded: Loaded[Environment],
        victims: Sequence[Loaded[Environment]],
        found: preemption.Preemption,
        picture: Picture,
        now: float,
    ) -> Planned | None:
        try:
            passed = [self._passed(victim.value, loaded.value) for victim in victims]
        except GuardRefused as error:
            log.warning("environment %s: takes nobody's place: %s", loaded.value.id, error)
            return None
        at = now + self._grace_s
        nominated = _nominated(loaded.value, found, picture, at, now)
        told = [event for events_ in passed for event in events_]
        puts = [self._books.environments.kind.put(nominated.id, nominated, loaded.version)]
        told += events.of_environment(loaded.value, nominated, now)
        for victim in victims:
            after = _told_to_go(victim.value, loaded.value, at, now)
            puts.append(self._books.environments.kind.put(after.id, after, victim.version))
            told += events.of_environment(victim.value, after, now)
        return Planned(nominated, tuple(puts), tuple(told))

    def _passed(self, victim: Environment, wanted_by: Environment) -> tuple[Event, ...]:
        return self._gate.judge(Act.PREEMPT, victim.id, self._facts(victim, wanted_by), _asking(wanted_by))

    def may_come_true(self, environment: Environment, now: float) -> bool:
        """Whether a nomination is still worth waiting for: some victim is on its way out."""
        nomination = environment.nomination
        if nomination is None or now >= nomination.until:
            return False
        return any(_goes(one.value, environment.id) for one in self._books.environments.many(nomination.victims))


def _asking(wanted_by: Environment) -> Asking:
    return Asking(TICK, f"guaranteed environment {wanted_by.id} of project {wanted_by.project} needs its room")


def _nominated(
    environment: Environment, found: preemption.Preemption, picture: Picture, at: float, now: float
) -> Environment:
    zones = {name: picture.fleet.zone_of(name) for names in found.placed.machines.values() for name in names}
    there = with_placement(environment, found.placed, zones, now)
    machines = {node.name: node.machine for node in there.nodes}
    reason = f"waits until {_clock(at)} for the room of best-effort {', '.join(found.victims)}"
    return replace(
        environment, nomination=Nomination(machines, found.victims, at + GOING_S), reason=reason, told_at=now
    )


def _told_to_go(victim: Environment, wanted_by: Environment, at: float, now: float) -> Environment:
    """Nothing is built of a mere reservation: it waits again at once. Everything else has its time of grace."""
    why = f"guaranteed environment {wanted_by.id} of project {wanted_by.project} takes its room"
    if victim.state is E.RESERVED:
        return replace(displace(victim, now, f"placed again later: {why}"), preempted=victim.preempted + 1)
    return replace(victim, notice=Notice(at, wanted_by.id, why))


def _goes(victim: Environment, by: str) -> bool:
    told = victim.notice is not None and victim.notice.by == by
    return victim.state is E.DESTROYING or (told and victim.state is not E.HELD and not victim.final)


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")
