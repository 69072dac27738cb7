"""Proofs that a request can never be placed: against the empty inventory with every machine in service.

Every proof relaxes the question (one role, or one sum, at a time), so that what it refuses cannot fit. It is silent
about what it cannot prove.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from pipeline.domain.placement.filters import CAPACITY, FILTERS, RULES, STATE, Question, hard
from pipeline.domain.placement.fleet import Fleet, Floats
from pipeline.domain.placement.model import Explanation, Request, RoleRequest
from pipeline.domain.placement.shapes import Shape, machine_share, shape_of, zone_share
from pipeline.domain.placement.units import amount, demand
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import Stance, Within

_NONE = dict.fromkeys(DIMENSIONS, "ask for none, or add machines that have some") | {
    "hugepages_mib": "leave `hugepages` out, or add machines whose inventory names `hugepages`"
}


def nonsense(fleet: Fleet, request: Request) -> Explanation | None:
    """A rule that names what is not there, or two that contradict each other; whatever stands on the machines."""
    for role in request.roles:
        for wrong in (*_unknown(fleet, request, role), *_contradictions(role)):
            return Explanation(role.role, f"role {role.role} can never be placed: {wrong}", remedies=(wrong,))
    return None


def _unknown(fleet: Fleet, request: Request, role: RoleRequest) -> Iterable[str]:
    if role.rules.near is not None and role.rules.near not in {other.role for other in request.roles}:
        yield f"it wants to be near role {role.rules.near}, which the environment does not have"
    for rule in role.rules.affinities:
        known = fleet.names[rule.attribute]
        missing = [value for value in rule.values if value not in known]
        if rule.stance is Stance.REQUIRE and len(missing) == len(rule.values):
            told = ", ".join(sorted(known)[:10]) or "none"
            yield f"{rule}, but there is no {rule.attribute} {' or '.join(missing)}; there are: {told}"


def _contradictions(role: RoleRequest) -> Iterable[str]:
    rules = hard(role)
    for wanted in (rule for rule in rules if rule.stance is Stance.REQUIRE):
        for unwanted in (rule for rule in rules if rule.stance is Stance.FORBID):
            if wanted.attribute is unwanted.attribute and set(wanted.values) <= set(unwanted.values):
                yield f"{wanted} contradicts {unwanted}; take one of them back"


def infeasible(fleet: Fleet, request: Request) -> Explanation | None:
    """Why a request does not fit even into the empty, healthy inventory; None when that is not proved."""
    empty = fleet.empty_healthy()
    for role in request.roles:
        shape = shape_of(empty, request, role)
        why = _one_fits(empty, role, shape) or _all_fit(empty, role, shape)
        if why:
            return Explanation(
                role.role, f"role {role.role} can never be placed: {why[0]}; {why[1]}", remedies=(why[1],)
            )
    return _together(empty, request)


def _one_fits(empty: Fleet, role: RoleRequest, shape: Shape) -> tuple[str, str] | None:
    permitted = np.flatnonzero(shape.fixed)
    if not len(permitted):
        return _no_machine(empty, role, shape)
    if np.isfinite(shape.current()).any():
        return None
    need = np.asarray(role.demand)
    for at in np.flatnonzero(need > empty.free[:, permitted].max(axis=1)):
        largest = int(permitted[empty.free[at, permitted].argmax()])
        most, wanted = amount(DIMENSIONS[at], float(empty.free[at, largest])), amount(DIMENSIONS[at], float(need[at]))
        if not empty.free[at, largest]:
            return f"a node of it takes {wanted}, and no machine that it may use has any", _NONE[DIMENSIONS[at]]
        found = f"a node of it takes {wanted}, and the largest machine that it may use, {empty.machines[largest].name}"
        return f"{found}, has {most}", f"ask for at most {most}, or add a larger machine"
    for one in shape.moving:
        question = Question(empty, role, "", shape.need, permitted)
        if one.name != CAPACITY and not one.allows(question).any():
            return one.why(question)
    return f"no machine has all of {demand(role.demand)}", "ask for less, or add a larger machine"


def _no_machine(empty: Fleet, role: RoleRequest, shape: Shape) -> tuple[str, str]:
    """What the role's rules say, and the filters that refuse a machine whatever stands on it."""
    told = [*map(str, hard(role))]
    remedies = ["change one of these rules, or add such a machine"]
    for one in FILTERS:
        if one.fixed and one.name not in {STATE, RULES} and one.applies(empty, role):
            every = Question(empty, role, "", shape.need, empty.every)
            refused = empty.every[~one.allows(every)]
            if len(refused):
                why, remedy = one.why(replace(every, rows=refused))
                told.append(why)
                remedies.append(remedy)
    return f"no machine keeps all its rules: {'; '.join(told)}", "; or ".join(remedies)


def slots(empty: Fleet, role: RoleRequest, shape: Shape) -> Floats:
    """How many nodes of a role each machine could take if it had nothing else."""
    need = np.asarray(role.demand)
    dims = np.flatnonzero(need)
    fits = np.isfinite(shape.current())
    if len(dims):
        counts = np.floor(np.min(empty.free[dims] / need[dims, None], axis=0) * (1 + 1e-9))
    else:
        counts = np.full(len(empty.machines), np.inf)
    counts = np.where(empty.bare, np.minimum(counts, 1.0), counts)
    counts = np.minimum(counts, empty.max_builds)
    most = machine_share(shape, role)
    counts = counts if most is None else np.minimum(counts, most)
    return np.where(fits, counts, 0.0)


def _by_zone(empty: Fleet, role: RoleRequest, shape: Shape) -> Floats:
    counts = slots(empty, role, shape)
    by_zone = np.array([counts[piece].sum() for piece in empty.slices])
    most = zone_share(shape, role)
    return by_zone if most is None else np.minimum(by_zone, most)


def _all_fit(empty: Fleet, role: RoleRequest, shape: Shape) -> tuple[str, str] | None:
    room = float(_by_zone(empty, role, shape).sum())
    if room >= role.count:
        return None
    why = f"{role.count} nodes of {demand(role.demand)} are wanted, and all machines together take {room:.0f} of them"
    rules = [f"at most {most} in a zone" for most in [zone_share(shape, role)] if most is not None]
    rules += [f"at most {most} on a machine" for most in [machine_share(shape, role)] if most is not None]
    kept = f" ({', '.join(rules)})" if rules else ""
    return why + kept, f"ask for at most {room:.0f} nodes, or add machines"


def _together(empty: Fleet, request: Request) -> Explanation | None:
    first = request.roles[0].role
    wanted = np.sum([np.asarray(role.demand) * role.count for role in request.roles], axis=0)
    there = empty.free.sum(axis=1)
    for at in np.flatnonzero(wanted > there * (1 + 1e-9)):
        most, need = amount(DIMENSIONS[at], float(there[at])), amount(DIMENSIONS[at], float(wanted[at]))
        remedy = f"ask for at most {most} in all, or add machines"
        return Explanation(first, f"it can never be placed: all nodes take {need}, all machines have {most}; {remedy}")
    if request.within is Within.ZONE and not any(_zone_takes_all(empty, request, z) for z in range(len(empty.zones))):
        remedy = "let it spread over zones, or ask for less"
        return Explanation(first, f"it can never be placed: no single zone can take all of its roles; {remedy}")
    return None


def _zone_takes_all(empty: Fleet, request: Request, zone: int) -> bool:
    pairs = [(role, shape_of(empty, request, role)) for role in request.roles]
    return all(_by_zone(empty, role, shape)[zone] >= role.count for role, shape in pairs)
