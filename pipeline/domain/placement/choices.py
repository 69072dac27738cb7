"""Why a node was placed where it was: the scores of its machine beside those of the best other one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.filters import Need, Question
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Candidate, Choice, Placed, Request, RoleRequest
from pipeline.domain.placement.scores import SCORES
from pipeline.domain.placement.search import in_order
from pipeline.domain.placement.shapes import NEVER
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import Within


def choices(fleet: Fleet, request: Request, placed: Placed) -> tuple[Choice, ...]:
    """The choice of every node, in the order in which they were made; `placed` is the answer of this fleet."""
    attempt = Attempt(fleet, request, _zones(fleet, request, placed))
    return tuple(choice for role in in_order(fleet, request) for choice in _of_role(attempt, role, placed))


def _zones(fleet: Fleet, request: Request, placed: Placed) -> frozenset[int] | None:
    """What the placement is kept within."""
    if request.within is Within.ANYWHERE:
        return None
    used = {int(fleet.zone[fleet.row[name]]) for names in placed.machines.values() for name in names}
    if request.within is Within.ZONE:
        return frozenset(used)
    regions = {fleet.zones[zone].region for zone in used}
    return frozenset(at for at, zone in enumerate(fleet.zones) if zone.region in regions)


def _of_role(attempt: Attempt, role: RoleRequest, placed: Placed) -> Iterator[Choice]:
    for number, machine in enumerate(placed.machines[role.role]):
        row = attempt.fleet.row[machine]
        values = attempt.values(role)
        values[row] = NEVER
        best = int(values.argmax())
        other = None if values[best] == NEVER else _candidate(attempt, role, best)
        yield Choice(role.role, number, _candidate(attempt, role, row), other)
        attempt.take(role, row)


def _candidate(attempt: Attempt, role: RoleRequest, row: int) -> Candidate:
    taken = attempt.taken.get(row, np.zeros(len(DIMENSIONS)))[:, None]
    rows, nodes = np.array([row]), np.array([attempt.nodes[row]])
    question = Question(attempt.fleet, role, attempt.request.service, Need(role), rows, taken, nodes)
    points = {
        score.name: score.weight * float(np.max(score.of(question, attempt.request.strategy))) for score in SCORES
    }
    return Candidate(attempt.fleet.machines[row].name, points)
