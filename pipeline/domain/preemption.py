"""Preemption: which best-effort environments must go so that a guaranteed request finds its place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.domain.admission import RANK
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Purpose
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request
from pipeline.domain.placement.shapes import shape_of
from pipeline.domain.qos import QosClass

#: Whoever was taken back so often stays until its time ends: preemption starves nobody.
MOST_TIMES = 3
#: Seconds that an environment keeps its nodes after it was told that it goes.
GRACE_S = 30.0
#: Only these can be taken back for somebody else: a held one is being looked at, an adopted one is nobody's to judge.
TAKEN_FROM = frozenset(
    {EnvironmentState.RESERVED, EnvironmentState.BUILDING, EnvironmentState.READY, EnvironmentState.LEASED}
)


@dataclass(frozen=True)
class Candidate:
    """An environment that may be taken back; `since`: when it was placed, `preempted`: how often that befell it.

    `idle`: a warm pool keeps it, and nobody uses it.
    """

    id: str
    priority: Priority
    since: float
    preempted: int = 0
    idle: bool = False


@dataclass(frozen=True)
class Preemption:
    """Who goes, none of whom could be left out, and where the request stands once they are gone."""

    victims: tuple[str, ...]
    placed: Placed


def may_preempt(environment: Environment) -> bool:
    """A guaranteed request may take back what is best-effort; acceptances of machines and warm pools take nobody's
    place.
    """
    if environment.unclaimed or any(rules.admitted for rules in environment.rules.roles.values()):
        return False
    return any(node.qos.qos_class is QosClass.GUARANTEED for node in environment.nodes)


def may_take(environment: Environment, one: Candidate) -> bool:
    """What nobody uses goes for everybody who does; the rest by `may_preempt`. Pools take nobody's place."""
    if environment.unclaimed or any(rules.admitted for rules in environment.rules.roles.values()):
        return False
    return one.idle or may_preempt(environment)


def candidate(environment: Environment) -> Candidate | None:
    """An environment as a candidate; None when it may not be taken back for somebody else.

    Only what is best-effort as a whole; never what is held, protected, part of a staging, or told to go already. What a
    warm pool keeps always may: whatever it was promised, nobody uses it.
    """
    if environment.unclaimed and environment.state in TAKEN_FROM and environment.notice is None:
        return Candidate(environment.id, environment.priority, environment.placed_at, idle=True)
    best_effort = all(node.qos.qos_class is QosClass.BEST_EFFORT for node in environment.nodes)
    if environment.state not in TAKEN_FROM or not best_effort or environment.notice is not None:
        return None
    if environment.protected or environment.purpose is Purpose.STAGING or environment.preempted >= MOST_TIMES:
        return None
    return Candidate(environment.id, environment.priority, environment.placed_at, environment.preempted)


def preempt(
    fleet: Fleet,
    request: Request,
    candidates: Iterable[Candidate],
    now: float,
    node_room: float = math.inf,
    leaving: Iterable[str] = (),
) -> Preemption | None:
    """The set of candidates that costs least among those found, from which none can be left out; None: none helps.

    `node_room` is how many nodes the provider takes before it is full. What is `leaving` already counts as gone; where
    that is enough, there are no victims. The fleet is left as it was.
    """
    search = _Search(fleet, request, now, node_room, leaving)
    return search.run(sorted(candidates, key=_worth))


def _worth(one: Candidate) -> tuple[bool, int, int, float, str]:
    """The dearest first: in use, then taken back before, then by priority, then the longest work."""
    return (one.idle, -one.preempted, RANK[one.priority], one.since, one.id)


#: Candidates that are tried first; twice as many each time that those do not make enough room.
FIRST = 128


class _Search:
    """Takes the cheapest candidates off the fleet, as many as it needs, then puts back whoever can stay, the dearest
    first.
    """

    def __init__(self, fleet: Fleet, request: Request, now: float, node_room: float, leaving: Iterable[str]) -> None:
        self._fleet = fleet
        self._request = request
        self._now = now
        self._room = node_room
        self._off: set[str] = set()
        self._leaving = sorted(one for one in leaving if one in fleet.standing)
        self._nodes = {one: tuple(nodes) for one, nodes in fleet.standing.items()}
        self._placed: Placed | None = None

    def run(self, candidates: Sequence[Candidate]) -> Preemption | None:
        useful = self._useful(candidates)
        self._fleet.remove(*self._leaving)
        try:
            if not self._fits() and not self._make_room(useful):
                return None
            self._reprieve([one for one in useful if one in self._off])
            self._reprieve_again()
            assert self._placed is not None, "what fits was placed"  # noqa: S101  # says it to the reader
            return Preemption(tuple(sorted(self._off)), self._placed)
        finally:
            self._put_back([*sorted(self._off), *self._leaving])

    def _useful(self, candidates: Sequence[Candidate]) -> list[str]:
        """Those that stand where the request might; where only the count of nodes is short, everyone does."""
        candidates = [one for one in candidates if one.id not in self._leaving]
        if self._room < self._request.count:
            return [one.id for one in candidates]
        shapes = [shape_of(self._fleet, self._request, role) for role in self._request.roles]
        names = {self._fleet.machines[row].name for shape in shapes for row in shape.possible.tolist()}
        return [one.id for one in candidates if any(node.machine in names for node in self._nodes.get(one.id, ()))]

    def _make_room(self, useful: Sequence[str]) -> bool:
        """Take off from the cheap end until the request fits; False when it does not even fit without all of them."""
        cheapest, many = useful[::-1], FIRST
        while len(self._off) < len(useful):
            self._take_off(cheapest[len(self._off) : many])
            if self._fits():
                return True
            many *= 2
        return False

    def _fits(self) -> bool:
        gone = [*self._off, *self._leaving]
        if self._room + sum(len(self._nodes.get(one, ())) for one in gone) < self._request.count:
            return False
        answer = decide(self._fleet, self._request, self._now, explain=False)
        if isinstance(answer, Placed):
            self._placed = answer
        return isinstance(answer, Placed)

    def _reprieve(self, group: Sequence[str]) -> None:
        """Let as many of a group stay as can, the first ones first; halves it until it knows whom it must lose."""
        if self._can_stay(group) or len(group) == 1:
            return
        half = len(group) // 2
        self._reprieve(group[:half])
        self._reprieve(group[half:])

    def _reprieve_again(self) -> None:
        """The search for places is greedy: with fewer gaps it may find one that it overlooked among many."""
        while any(self._can_stay([one]) for one in sorted(self._off)):
            pass

    def _can_stay(self, group: Sequence[str]) -> bool:
        placed = self._placed
        self._put_back(group)
        if self._fits():
            return True
        self._placed = placed
        self._take_off(group)
        return False

    def _take_off(self, group: Sequence[str]) -> None:
        self._off.update(group)
        self._fleet.remove(*group)

    def _put_back(self, group: Sequence[str]) -> None:
        self._off.difference_update(group)
        self._fleet.add(node for one in group for node in self._nodes.get(one, ()))
