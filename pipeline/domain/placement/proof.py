"""Proofs that a request can never be placed: against the empty inventory with every machine in service.

Every proof relaxes the question (one role, or one sum, at a time), so that what it refuses cannot fit. It is silent
about what it cannot prove.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.domain.placement.changes import (
    AddMachines,
    AskLess,
    Change,
    DropRule,
    Gather,
    LeaveNear,
    LetSpread,
    LowerCount,
    RaiseZoneShare,
    Remedy,
    RequestChange,
)
from pipeline.domain.placement.contradictions import contradiction
from pipeline.domain.placement.filters import CAPACITY, FILTERS, RULES, STATE, Question
from pipeline.domain.placement.fleet import Fleet, Floats, Rows
from pipeline.domain.placement.model import Explanation, Request, RoleRequest
from pipeline.domain.placement.shapes import Shape, machine_share, shape_of, zone_share
from pipeline.domain.placement.units import amount, at_most, demand
from pipeline.domain.placement.whatif import asked_less, emptied
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import Spread, Stance, Within

#: Room for rounding, relative.
SLACK = 1 + 1e-9

_NONE = dict.fromkeys(DIMENSIONS, "ask for none, or add machines that have some") | {
    "hugepages_mib": "leave `hugepages` out, or add machines whose inventory names `hugepages`"
}


def nonsense(fleet: Fleet, request: Request) -> Explanation | None:
    """The rules of a role that name what is not there."""
    for role in request.roles:
        unknown = list(_unknown(fleet, request, role))
        if unknown:
            return _never(role, "; ".join(wrong for wrong, _ in unknown), "unknown-name", [way for _, way in unknown])
    return None


def _unknown(fleet: Fleet, request: Request, role: RoleRequest) -> Iterable[tuple[str, RequestChange]]:
    near = role.rules.near
    if near is not None and near not in {other.role for other in request.roles}:
        yield f"it wants to be near role {near}, which the environment does not have", LeaveNear(role.role, near)
    for rule in role.rules.affinities:
        known = fleet.names[rule.attribute]
        missing = [value for value in rule.values if value not in known]
        if rule.stance is Stance.REQUIRE and len(missing) == len(rule.values):
            told = ", ".join(sorted(known)[:10]) or "none"
            wrong = f"{rule}, but there is no {rule.attribute} {' or '.join(missing)}; there are: {told}"
            yield wrong, DropRule(role.role, rule)


def _never(role: RoleRequest, why: str, rule: str, *ways: Sequence[Change]) -> Explanation:
    remedies = tuple(Remedy(tuple(way)) for way in ways)
    return Explanation(role.role, f"role {role.role} can never be placed: {why}", remedies=remedies, rule=rule)


def infeasible(fleet: Fleet, request: Request) -> Explanation | None:
    """Why a request does not fit even into the empty, healthy inventory; None when that is not proved."""
    empty = emptied(fleet)
    found = contradiction(empty, request)
    if found is not None:
        return found
    for role in request.roles:
        shape = shape_of(empty, request, role)
        why = _one_fits(empty, role, shape) or _all_fit(empty, request, role)
        if why is not None:
            return why
    return _sum(empty, request) or _one_zone(empty, request)


def _one_fits(empty: Fleet, role: RoleRequest, shape: Shape) -> Explanation | None:
    """One node of a role, on the machine that has most of what it lacks."""
    permitted = np.flatnonzero(shape.fixed)
    if not len(permitted):
        return _never(role, _refused_whatever_stands_there(empty, role, shape), "no-machine")
    if np.isfinite(shape.current()).any():
        return None
    need = np.asarray(role.demand)
    lack = (need[:, None] - empty.free[:, permitted]).clip(0.0) / np.maximum(need, 1e-9)[:, None]
    nearest = int(permitted[lack.sum(axis=0).argmin()])
    short = np.flatnonzero(need > empty.free[:, nearest])
    if not len(short):
        return _never(role, _refused_when_empty(empty, role, shape, permitted), "no-machine")
    none = [DIMENSIONS[at] for at in short if not empty.free[at, permitted].any()]
    if none:
        wanted = ", ".join(amount(name, float(need[DIMENSIONS.index(name)])) for name in none)
        what_to_do = "; ".join(dict.fromkeys(_NONE[name] for name in none))
        why = f"a node of it takes {wanted}, and no machine that it may use has any; {what_to_do}"
        less = [AskLess(role.role, name, 0.0) for name in none]
        return _never(role, why, "none-has-any", less)
    wanted = ", ".join(amount(DIMENSIONS[at], float(need[at])) for at in short)
    there = ", ".join(amount(DIMENSIONS[at], float(empty.free[at, nearest])) for at in short)
    machine = empty.machines[nearest]
    why = f"a node of it takes {wanted}, and the largest machine that it may use, {machine.name}, has {there}"
    less = [AskLess(role.role, DIMENSIONS[at], at_most(DIMENSIONS[at], float(empty.free[at, nearest]))) for at in short]
    larger = AddMachines(1, machine.name, machine.zone, tuple(map(float, need)))
    return _never(role, why, "too-large", less, [larger])


def _refused_whatever_stands_there(empty: Fleet, role: RoleRequest, shape: Shape) -> str:
    """What the filters say that refuse a machine for good, each in its own words."""
    told = []
    for one in FILTERS:
        if one.fixed and one.name not in {STATE, RULES} and one.applies(empty, role):
            every = Question(empty, role, "", shape.need, empty.every)
            refused = empty.every[~one.allows(every)]
            if len(refused):
                why, remedy = one.why(replace(every, rows=refused))
                told.append(f"{why} ({remedy})")
    return "no machine may take it" + "".join(f"; {why}" for why in told)


def _refused_when_empty(empty: Fleet, role: RoleRequest, shape: Shape, permitted: Rows) -> str:
    """What a filter says that refuses every machine that the role may use, even with nothing on it."""
    for one in shape.moving:
        question = Question(empty, role, "", shape.need, permitted)
        if one.name != CAPACITY and not one.allows(question).any():
            why, remedy = one.why(question)
            return f"{why} ({remedy})"
    return f"no machine has all of {demand(role.demand)}"


def slots(empty: Fleet, role: RoleRequest, shape: Shape) -> Floats:
    """How many nodes of a role each machine could take if it had nothing else."""
    need = np.asarray(role.demand)
    dims = np.flatnonzero(need)
    fits = np.isfinite(shape.current())
    if len(dims):
        counts = np.floor(np.min(empty.free[dims] / need[dims, None], axis=0) * SLACK)
    else:
        counts = np.full(len(empty.machines), np.inf)
    counts = np.where(empty.whole, np.minimum(counts, 1.0), counts)
    counts = np.minimum(counts, empty.max_builds)
    most = machine_share(shape, role)
    counts = counts if most is None else np.minimum(counts, most)
    return np.where(fits, counts, 0.0)


def _by_zone(empty: Fleet, role: RoleRequest, shape: Shape) -> Floats:
    counts = slots(empty, role, shape)
    by_zone = np.array([counts[piece].sum() for piece in empty.slices])
    most = zone_share(shape, role)
    return by_zone if most is None else np.minimum(by_zone, most)


def _room(empty: Fleet, request: Request, role: RoleRequest) -> float:
    return float(_by_zone(empty, role, shape_of(empty, request, role)).sum())


def _all_fit(empty: Fleet, request: Request, role: RoleRequest) -> Explanation | None:
    room = _room(empty, request, role)
    if room >= role.count:
        return None
    shape = shape_of(empty, request, role)
    why = f"{role.count} nodes of {demand(role.demand)} are wanted, and all machines together take {room:.0f} of them"
    rules = [f"at most {most} in a zone" for most in [zone_share(shape, role)] if most is not None]
    rules += [f"at most {most} on a machine" for most in [machine_share(shape, role)] if most is not None]
    kept = f" ({', '.join(rules)})" if rules else ""
    return _never(role, why + kept, "too-many", *_fewer(empty, request, role), *_more(empty, request, role))


def _fewer(empty: Fleet, request: Request, role: RoleRequest) -> Iterator[Sequence[Change]]:
    """As many nodes as find room, where fewer nodes mean smaller even shares too; or uneven shares."""
    count = role.count
    while count and (room := math.floor(_room(empty, request, replace(role, count=count)))) < count:
        count = room
    if count:
        yield [LowerCount(role.role, count)]
    for change in _looser(role):
        changed = next(one for one in asked_less(request, change).roles if one.role == role.role)
        if _room(empty, request, changed) >= role.count:
            yield [change]


def _looser(role: RoleRequest) -> Iterator[RequestChange]:
    if role.rules.max_per_zone is not None:
        yield RaiseZoneShare(role.role, role.count)
    if role.rules.spread is not Spread.NONE:
        yield Gather(role.role, role.rules.spread)


def _more(empty: Fleet, request: Request, role: RoleRequest) -> Iterator[Sequence[Change]]:
    """Machines like the one that takes most of them; where shares are even, more machines change these."""
    shape = shape_of(empty, request, role)
    if zone_share(shape, role) is not None or machine_share(shape, role) is not None:
        return
    counts = slots(empty, role, shape)
    best = int(counts.argmax())
    missing = role.count - float(counts.sum())
    machine = empty.machines[best]
    yield [AddMachines(math.ceil(missing / float(counts[best])), machine.name, machine.zone)]


def _sum(empty: Fleet, request: Request) -> Explanation | None:
    """All nodes together against all machines together, one dimension at a time."""
    wanted = np.sum([np.asarray(role.demand) * role.count for role in request.roles], axis=0)
    there = empty.free.sum(axis=1)
    over = np.flatnonzero(wanted > there * SLACK)
    if not len(over):
        return None
    told = (
        [amount(DIMENSIONS[at], float(wanted[at])) for at in over],
        [amount(DIMENSIONS[at], float(there[at])) for at in over],
    )
    why = f"it can never be placed: all nodes take {', '.join(told[0])}, all machines have {', '.join(told[1])}"
    ways = [*_fewer_of_one(request, (wanted - there)[over], over), *_more_of_one(empty, (wanted - there)[over], over)]
    return Explanation(request.roles[0].role, why, remedies=tuple(Remedy((way,)) for way in ways), rule="too-much")


def _fewer_of_one(request: Request, excess: Floats, over: Rows) -> Iterator[Change]:
    """The first role that could be smaller, by as many nodes as are too many."""
    for role in request.roles:
        need = np.asarray(role.demand)[over]
        if (need > 0).all():
            to = role.count - math.ceil(float((excess / need).max()) / SLACK)
            if to >= 1:
                yield LowerCount(role.role, to)
                return


def _more_of_one(empty: Fleet, excess: Floats, over: Rows) -> Iterator[Change]:
    """So many machines like the one that has most of what is short."""
    best = int((empty.usable[over] / excess[:, None]).min(axis=0).argmax())
    share = float((empty.usable[over, best] / excess).min())
    if share > 0:
        machine = empty.machines[best]
        yield AddMachines(math.ceil(1 / share), machine.name, machine.zone)


def _one_zone(empty: Fleet, request: Request) -> Explanation | None:
    if request.within is not Within.ZONE or any(_zone_takes_all(empty, request, z) for z in range(len(empty.zones))):
        return None
    why = "it can never be placed: it stays within one zone, and no single zone can take all nodes of each of its roles"
    remedy = Remedy((LetSpread(request.within),))
    return Explanation(request.roles[0].role, why, remedies=(remedy,), rule="within")


def _zone_takes_all(empty: Fleet, request: Request, zone: int) -> bool:
    pairs = [(role, shape_of(empty, request, role)) for role in request.roles]
    return all(_by_zone(empty, role, shape)[zone] >= role.count for role, shape in pairs)
