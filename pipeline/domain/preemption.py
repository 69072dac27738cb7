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
from pipeline.domain.placement.model import Placed, Request, Standing
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
    """An environment that may be taken back; `since`: when it was placed, `preempted`: how often that befell it."""

    id: str
    priority: Priority
    since: float
    preempted: int = 0


@dataclass(frozen=True)
class Preemption:
    """Who goes, none of whom could be left out, and where the request stands once they are gone."""

    victims: tuple[str, ...]
    placed: Placed


def may_preempt(environment: Environment) -> bool:
    """A guaranteed request may take back what is best-effort."""
    return any(node.qos.qos_class is QosClass.GUARANTEED for node in environment.nodes)


def candidate(environment: Environment) -> Candidate | None:
    """An environment as a candidate; None when it may not be taken back for somebody else.

    Only what is best-effort as a whole; never what is held, protected, part of a staging, or told to go already.
    """
    best_effort = all(node.qos.qos_class is QosClass.BEST_EFFORT for node in environment.nodes)
    if environment.state not in TAKEN_FROM or not best_effort or environment.notice is not None:
        return None
    if environment.protected or environment.purpose is Purpose.STAGING or environment.preempted >= MOST_TIMES:
        return None
    return Candidate(environment.id, environment.priority, environment.placed_at, environment.preempted)


def preempt(
    fleet: Fleet, request: Request, candidates: Iterable[Candidate], now: float, node_room: float = math.inf
) -> Preemption | None:
    """The set of candidates that costs least among those found, from which none can be left out; None: none helps.

    `node_room` is how many nodes the provider takes before it is full. The fleet is left as it was.
    """
    search = _Search(fleet, request, now, node_room)
    return search.run(sorted(candidates, key=_worth))


def _worth(one: Candidate) -> tuple[int, int, float, str]:
    """The dearest first: taken back before, then by priority, then the longest work."""
    return (-one.preempted, RANK[one.priority], one.since, one.id)


class _Search:
    """Takes every candidate off the fleet, then puts back whoever can stay, the dearest first."""

    def __init__(self, fleet: Fleet, request: Request, now: float, node_room: float) -> None:
        self._fleet = fleet
        self._request = request
        self._now = now
        self._room = node_room
        self._off: dict[str, list[Standing]] = {}
        self._placed: Placed | None = None

    def run(self, candidates: Sequence[Candidate]) -> Preemption | None:
        useful = [one.id for one in candidates if self._is_useful(one)]
        try:
            self._take_off(useful)
            if not useful or not self._fits():
                return None
            self._reprieve(useful)
            self._reprieve_again()
            assert self._placed is not None, "what fits was placed"  # noqa: S101  # says it to the reader
            return Preemption(tuple(sorted(self._off)), self._placed)
        finally:
            self._put_back(list(self._off))

    def _is_useful(self, one: Candidate) -> bool:
        """Whether it stands where the request might; where only the count of nodes is short, everyone is."""
        if self._room < self._request.count:
            return True
        rows = {self._fleet.row.get(node.machine, -1) for node in self._fleet.standing.get(one.id, ())}
        shapes = (shape_of(self._fleet, self._request, role) for role in self._request.roles)
        return any(row >= 0 and shape.fixed[row] for shape in shapes for row in rows)

    def _fits(self) -> bool:
        if self._room + sum(map(len, self._off.values())) < self._request.count:
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
        for one in group:
            self._off[one] = self._fleet.remove(one)

    def _put_back(self, group: Sequence[str]) -> None:
        for one in group:
            self._fleet.add(self._off.pop(one))
