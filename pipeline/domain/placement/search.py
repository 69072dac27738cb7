"""How a whole environment is sought: greedily in several orders, then, on small fleets, by trying everything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, permutations

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.fleet import Fleet, Floats
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.shapes import NEVER, shape_of
from pipeline.domain.rules import Strategy, Within

#: Greedy tries of one request before the search gives up, and steps of the exhaustive one.
TRIES = 32
STEPS = 1500
#: Whole placements that are compared on a small fleet.
COMPARED = 8
#: The exhaustive search is worth its time up to so many machines that may take a node, and so many nodes.
SMALL = 48
FEW = 14


@dataclass(frozen=True)
class Found:
    """An attempt that placed everything."""

    attempt: Attempt


@dataclass(frozen=True)
class NotFound:
    """The attempt that came furthest."""

    attempt: Attempt


def search(fleet: Fleet, request: Request, tries: int = TRIES, steps: int = STEPS) -> Found | NotFound:
    """The first whole placement of the tries, in a fixed order: the same input gives the same answer."""
    best: Attempt | None = None
    tightest = _Tightest(fleet, request)
    for zones, variant, roles in islice(_plans(fleet, request), tries):
        attempt = Attempt(fleet, variant, zones)
        if all(attempt.place(role) for role in roles):
            tightest.see(attempt)
            if tightest.enough:
                break
            continue
        if best is None or _placed(attempt) > _placed(best):
            best = attempt
        if _hopeless(attempt, roles):
            break
    if tightest.attempt is not None:
        return Found(tightest.attempt)
    assert best is not None, "there is always a first plan"  # noqa: S101  # says it to the reader
    return _exhaust(fleet, request, best, steps)


class _Tightest:
    """The whole attempt that opens the fewest machines; where few machines are in question, several are compared."""

    def __init__(self, fleet: Fleet, request: Request) -> None:
        self.attempt: Attempt | None = None
        self.opened = 0
        compared = request.strategy is Strategy.PACK and len(fleet.machines) <= SMALL
        self._left = COMPARED if compared else 1

    def see(self, attempt: Attempt) -> None:
        opened = sum(1 for row in attempt.taken if not attempt.fleet.nodes[row])
        if self.attempt is None or opened < self.opened:
            self.attempt, self.opened = attempt, opened
        self._left -= 1

    @property
    def enough(self) -> bool:
        return self._left <= 0 or self.opened <= 1


def _placed(attempt: Attempt) -> int:
    return sum(len(rows) for rows in attempt.chosen.values())


def _hopeless(attempt: Attempt, roles: Sequence[RoleRequest]) -> bool:
    """The first role alone found no machine at all, anywhere: no order helps."""
    return attempt.zones is None and attempt.stuck is roles[0] and not attempt.taken


def _plans(fleet: Fleet, request: Request) -> Iterator[tuple[frozenset[int] | None, Request, tuple[RoleRequest, ...]]]:
    places = list(_places(fleet, request))
    first = in_order(fleet, request)
    for zones in places:
        yield zones, request, first
    other = Strategy.SPREAD if request.strategy is Strategy.PACK else Strategy.PACK
    variants = (request, replace(request, strategy=other))
    for order in chain([first], islice(_orders(request), 12)):
        for variant in variants:
            for zones in places:
                if (order, variant) != (first, request):
                    yield zones, variant, order


def _orders(request: Request) -> Iterator[tuple[RoleRequest, ...]]:
    return (order for order in permutations(request.roles) if _near_after(order))


def in_order(fleet: Fleet, request: Request) -> tuple[RoleRequest, ...]:
    """Roles that others want to be near first, then the ones that are hardest to place."""
    targets = {role.rules.near for role in request.roles}

    def hardness(role: RoleRequest) -> tuple[bool, bool, float, str]:
        most = fleet.largest
        share = max((need / cap for need, cap in zip(role.demand, most, strict=True) if cap > 0), default=0.0)
        return (role.role not in targets, role.rules.near is not None, -share, role.role)

    return tuple(sorted(request.roles, key=hardness))


def _near_after(order: Sequence[RoleRequest]) -> bool:
    """Whether each role comes after the one it wants to be near."""
    at = {role.role: place for place, role in enumerate(order)}
    return all(role.rules.near is None or at.get(role.rules.near, -1) < at[role.role] for role in order)


def _places(fleet: Fleet, request: Request) -> Iterable[frozenset[int] | None]:
    """What the environment may stay within, roomiest first; each zone alone once more where roles want to be near."""
    near = any(role.rules.near is not None for role in request.roles)
    if request.within is Within.ANYWHERE and not near:
        return [None]
    roomy = [int(zone) for zone in np.argsort(-_room(fleet), kind="stable")]
    if request.within is Within.ZONE:
        return [frozenset({zone}) for zone in roomy]
    if request.within is Within.REGION:
        regions = dict.fromkeys(fleet.zones[zone].region for zone in roomy)
        return [frozenset(z for z in roomy if fleet.zones[z].region == region) for region in regions]
    return [None, *(frozenset({zone}) for zone in roomy)]


def _room(fleet: Fleet) -> Floats:
    """A rough measure of what is free by zone: memory where it is limited."""
    return np.asarray(fleet.zone_free[1])


def _exhaust(fleet: Fleet, request: Request, best: Attempt, steps: int) -> Found | NotFound:
    roles = in_order(fleet, request)
    possible = {row for role in roles for row in shape_of(fleet, request, role).possible.tolist()}
    if request.count > FEW or len(possible) > SMALL:
        return NotFound(best)
    left = [steps]
    for zones in _places(fleet, request):
        attempt = Attempt(fleet, request, zones)
        nodes = [role for role in roles for _ in range(role.count)]
        if _deeper(attempt, nodes, 0, left):
            return Found(attempt)
    return NotFound(best)


def _deeper(attempt: Attempt, nodes: Sequence[RoleRequest], at: int, left: list[int]) -> bool:
    """Place node `at` and all after it, trying every machine; `left` counts the steps down."""
    if at == len(nodes):
        return True
    role = nodes[at]
    again = at > 0 and nodes[at - 1] is role
    lowest = attempt.chosen[role.role][-1] if again else -1
    values = attempt.values(role)
    for row in np.argsort(-values, kind="stable").tolist():
        if values[row] == NEVER or left[0] <= 0:
            return False
        if row < lowest:
            continue  # nodes of a role are alike: every set of machines is tried once
        left[0] -= 1
        attempt.take(role, row)
        if _deeper(attempt, nodes, at + 1, left):
            return True
        attempt.give_back(role)
    return False
