"""What would help a request that waits: each remedy was tried out and is enough, and no step of it could be left out.

Two ways lead there. The world may change: the attempt is repeated, and where a node finds no machine, the machine that
lacks least is granted what it lacks. Or the request gives something up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.changes import (
    AddMachines,
    AskLess,
    Change,
    DropRule,
    FallBack,
    Free,
    Gather,
    GiveBack,
    LeaveNear,
    LeaveService,
    LetSpread,
    LowerCount,
    RaiseZoneShare,
    Remedy,
    RequestChange,
    ShareMachines,
    Unload,
    WorldChange,
    combined,
)
from pipeline.domain.placement.filters import hard
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.grants import Costs, cheapest, grant
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.search import Found, in_order, search
from pipeline.domain.placement.shapes import shape_of, zone_share
from pipeline.domain.placement.units import at_least_of, at_most
from pipeline.domain.placement.whatif import apply, asked_less, emptied, what_if
from pipeline.domain.resources import DIMENSIONS, Vector
from pipeline.domain.rules import BareMetal, Spread, Strategy, Within

#: Zones (or regions) that are looked into, where all of an environment must stay in one.
PLACES = 4
#: Remedies that are told at most.
MOST = 4
#: Searches that may be spent on finding them, greedy tries of each, and its exhaustive steps.
SEARCHES, TRIES, STEPS = 24, 3, 60
#: The first two on fleets of more machines than `MANY`, on which a try takes milliseconds; and where zones are tried
#: one by one.
MANY = 300
FEW_SEARCHES, FEW_TRIES = 14, 1
FEWEST_SEARCHES, ZONE_TRIES, FEW_PLACES = 6, 3, 2
#: Nodes that are granted a machine, environments that are given back, at most.
GRANTS = 12
GIVEN_BACK = 6


@dataclass
class _Trials:
    """Tries changes out; `left` searches may be spent. `fleet` is a copy that keeps the shapes of the request alone."""

    fleet: Fleet
    request: Request
    left: int
    tries: int

    @classmethod
    def of(cls, fleet: Fleet, request: Request) -> _Trials:
        own = what_if(fleet, shapes=False)
        for strategy in Strategy:
            for role in request.roles:
                shape_of(own, replace(request, strategy=strategy), role)
        if len(fleet.machines) <= MANY:
            return cls(own, request, SEARCHES, TRIES)
        if request.within is Within.ANYWHERE and all(role.rules.near is None for role in request.roles):
            return cls(own, request, FEW_SEARCHES, FEW_TRIES)
        return cls(own, request, FEWEST_SEARCHES, ZONE_TRIES)

    def enough(self, steps: Sequence[Change]) -> bool:
        """Whether the request is placed after all of the steps; False too when no search is left."""
        if self.left <= 0:
            return False
        self.left -= 1
        fleet, request = changed(self.fleet, self.request, steps)
        return isinstance(search(fleet, request, self.tries, STEPS), Found)


def changed(fleet: Fleet, request: Request, steps: Sequence[Change]) -> tuple[Fleet, Request]:
    """Copies after all of the steps."""
    other = what_if(fleet)
    for step in steps:
        if isinstance(step, WorldChange):
            other = apply(other, step)
        else:
            request = asked_less(request, step)
    return other, request


def remedies(fleet: Fleet, request: Request, best: Attempt) -> tuple[Remedy, ...]:
    """What would help, each by itself: what passes or is given back first, then what may be asked differently."""
    trials = _Trials.of(fleet, request)
    found = list(_of_the_world(trials, best)) or list(_of_an_empty_world(trials))
    for change in _of_the_request(fleet, request, best):
        if len(found) < MOST and trials.enough([change]):
            found.append(Remedy((change,)))
    if not found:
        found = list(_last_resort(trials, best))
    return tuple(dict.fromkeys(found))


# -- the world changes


def _of_the_world(trials: _Trials, best: Attempt) -> Iterator[Remedy]:
    """With machines out of service left where they are, if that is possible, and with them brought back."""
    costs = [Costs(service=np.inf), Costs(service=0.01)] if not trials.fleet.in_service.all() else [Costs()]
    for one in costs:
        repairs = [_repaired(trials, zones, one) for zones in _places(trials.fleet, trials.request, best)]
        for repair in sorted((one for one in repairs if one is not None), key=lambda one: one.cost):
            if trials.enough(repair.steps):
                yield Remedy(_least(trials, repair.steps))
                break


def _of_an_empty_world(trials: _Trials) -> Iterator[Remedy]:
    """What a placement into the empty, healthy inventory would take of those who are there."""
    found = search(emptied(trials.fleet), trials.request, trials.tries, STEPS)
    if isinstance(found, Found):
        fleet = what_if(trials.fleet)
        attempt, steps = Attempt(fleet, trials.request), list[Change]()
        for role in trials.request.roles:
            for row in found.attempt.chosen[role.role]:
                steps += grant(attempt, role, row)
        steps = [_rounded(step) for step in combined(steps)]
        if trials.enough(steps):
            yield Remedy(_least(trials, steps))


def _places(fleet: Fleet, request: Request, best: Attempt) -> list[frozenset[int] | None]:
    """What the environment may stay within: where the best attempt was first, then the roomiest."""
    near = any(role.rules.near is not None for role in request.roles)
    roomy = [int(zone) for zone in np.argsort(-fleet.zone_free[1], kind="stable")]
    if request.within is Within.REGION:
        regions = dict.fromkeys(fleet.zones[zone].region for zone in roomy)
        sets: list[frozenset[int] | None] = [
            frozenset(zone for zone in roomy if fleet.zones[zone].region == region) for region in regions
        ]
    else:
        sets = [frozenset({zone}) for zone in roomy]
    if request.within is Within.ANYWHERE:
        sets = [None, *sets] if near else [None]
    first = [best.zones] if best.zones is not None else []
    return list(dict.fromkeys([*first, *sets]))[: FEW_PLACES if len(fleet.machines) > MANY else PLACES]


@dataclass
class _Repair:
    """Changes that a whole placement needed, and how dear they are together."""

    steps: tuple[Change, ...] = ()
    cost: float = 0.0
    grants: int = field(default=GRANTS, repr=False)


def _repaired(trials: _Trials, zones: frozenset[int] | None, costs: Costs) -> _Repair | None:
    """Place every node, and grant the nearest machine what it lacks where one finds none; None: nothing helps."""
    fleet = what_if(trials.fleet)
    attempt, repair = Attempt(fleet, trials.request, zones), _Repair()
    for role in in_order(fleet, trials.request):
        while not attempt.place(role):
            nearest = cheapest(attempt, role, costs) if repair.grants else None
            if nearest is None:
                return None
            steps = grant(attempt, role, nearest[0])
            repair = _Repair((*repair.steps, *steps), repair.cost + nearest[1], repair.grants - 1)
    return replace(repair, steps=tuple(_rounded(step) for step in combined(repair.steps)))


def _rounded(step: Change) -> Change:
    """The step with amounts that read as they are."""
    if isinstance(step, Free | Unload):
        return replace(step, room=at_least_of(step.room))
    return step


def _least(trials: _Trials, steps: Sequence[Change]) -> tuple[Change, ...]:
    """The steps without those, and without those amounts, that can be left out."""
    kept = list(steps)
    for step in steps:
        others = [one for one in kept if one is not step]
        if others and trials.enough(others):
            kept = others
            continue
        for less in _less(step):
            if trials.enough([*others, less]):
                kept = [less if one is step else one for one in kept]
                break
    return tuple(kept)


def _less(step: Change) -> Iterator[Change]:
    """Smaller forms of a step: without one of its dimensions, then half of it."""
    if not isinstance(step, Free | Unload):
        return
    named = [at for at, amount in enumerate(step.room) if amount]
    for at in named if len(named) > 1 else []:
        yield replace(step, room=_without(step.room, at))
    yield replace(step, room=at_least_of([amount / 2 for amount in step.room]))


def _without(room: Vector, dimension: int) -> Vector:
    return tuple(0.0 if at == dimension else amount for at, amount in enumerate(room))


# -- the request gives something up


def _of_the_request(fleet: Fleet, request: Request, best: Attempt) -> Iterator[RequestChange]:
    """What the role at which the best attempt was stuck may give up, and the whole environment."""
    role = best.stuck or request.roles[0]
    placed = len(best.chosen[role.role])
    if 0 < placed < role.count:
        yield LowerCount(role.role, placed)
    if request.within is not Within.ANYWHERE:
        yield LetSpread(request.within)
    yield from _of_the_rules(role, best)
    yield from _smaller(fleet, role, best)


def _of_the_rules(role: RoleRequest, best: Attempt) -> Iterator[RequestChange]:
    rules = role.rules
    if rules.max_per_zone is not None and (share := zone_share(best.valuation(role).shape, role)) is not None:
        yield RaiseZoneShare(role.role, share + 1)
    if rules.spread is not Spread.NONE:
        yield Gather(role.role, rules.spread)
    if rules.near is not None:
        yield LeaveNear(role.role, rules.near)
    if rules.near_service is not None:
        yield LeaveService(role.role, rules.near_service)
    for rule in hard(role):
        yield DropRule(role.role, rule)
    if rules.bare_metal is BareMetal.REQUIRED:
        yield FallBack(role.role)
    if rules.apart_from:
        yield ShareMachines(role.role, rules.apart_from)


def _smaller(fleet: Fleet, role: RoleRequest, best: Attempt) -> Iterator[AskLess]:
    """As much as is free on the machine that comes nearest, where only one dimension is short there."""
    rows = best.valuation(role).shape.possible
    if not len(rows):
        return
    need = np.asarray(role.demand)[:, None]
    free = fleet.free[:, rows].copy()
    for at in np.flatnonzero(np.isin(rows, list(best.taken))):
        free[:, at] -= best.taken[int(rows[at])]
    short = (free < need) & (need > 0)
    for at in np.flatnonzero(short.any(axis=1)):
        alone = short[at] & (short.sum(axis=0) == 1)
        most = float(free[at, alone].max()) if alone.any() else 0.0
        if most > 0:
            yield AskLess(role.role, DIMENSIONS[at], at_most(DIMENSIONS[at], most))


# -- nothing of this helps


def _last_resort(trials: _Trials, best: Attempt) -> Iterator[Remedy]:
    """Something given up and something granted; environments that are given back; or machines that are added, like the
    largest that the role may use."""
    for change in _of_the_request(trials.fleet, trials.request, best):
        smaller = replace(trials, request=asked_less(trials.request, change))
        for remedy in islice(_of_the_world(smaller, best), 1):
            yield Remedy((change, *remedy.steps))
        trials.left = smaller.left
    given = _given_back(trials)
    if given:
        yield Remedy(given)
    role = best.stuck or trials.request.roles[0]
    rows = best.valuation(role).shape.possible
    if len(rows):
        like = trials.fleet.machines[int(rows[trials.fleet.usable[1, rows].argmax()])]
        for count in (1, 2, 4):
            added = AddMachines(count, like.name, like.zone)
            if trials.enough([added]):
                yield Remedy((added,))
                break


def _given_back(trials: _Trials) -> tuple[Change, ...]:
    """The fewest of the largest environments without which the request is placed."""
    largest = sorted(trials.fleet.standing.items(), key=lambda item: (-len(item[1]), item[0]))[:GIVEN_BACK]
    steps: list[Change] = []
    for environment, nodes in largest:
        steps.append(GiveBack(environment, len(nodes)))
        if trials.enough(steps):
            return _least(trials, steps)
    return ()
