"""What if: a fleet or a request after a change, for trying it out. The fleet itself is left as it is."""

from __future__ import annotations

import copy
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

import numpy as np

from pipeline.domain.inventory import Load, Machine, MachineState
from pipeline.domain.placement.changes import (
    AddMachines,
    AskLess,
    Clear,
    DropRule,
    FallBack,
    FinishBuilds,
    Free,
    FreeUplink,
    Gather,
    GiveBack,
    LeaveNear,
    LeaveService,
    LetSpread,
    LowerCount,
    Measure,
    MoveServices,
    RaiseZoneShare,
    RequestChange,
    ReturnToService,
    ShareMachines,
    Unload,
    WorldChange,
)
from pipeline.domain.placement.fleet import NETWORK, SPARE_DIMS, Fleet, Floats, most_builds
from pipeline.domain.placement.model import Request, RoleRequest, Standing
from pipeline.domain.resources import DIMENSIONS, Vector
from pipeline.domain.rules import BareMetal, PlacementRules, Spread, Within


def what_if(fleet: Fleet, *, shapes: bool = True) -> Fleet:
    """A fleet with arrays of its own, which may be changed by `apply`; much cheaper than a clone.

    With `shapes`, those that the fleet keeps are taken over: cheap when it keeps few.
    """
    other = copy.copy(fleet)
    for name, value in vars(fleet).items():
        if isinstance(value, np.ndarray):
            setattr(other, name, value.copy(order="K"))
    other.journal, other.forgotten, other.shapes = [], 0, {}
    for key, shape in fleet.shapes.items() if shapes else ():
        other.shapes[key] = shape.of(other)
    return other


def _own(counts: Mapping[str, Counter[int]]) -> dict[str, Counter[int]]:
    return defaultdict(Counter, {name: rows.copy() for name, rows in counts.items()})


def emptied(fleet: Fleet, *, healthy: bool = True) -> Fleet:
    """The same machines with nothing on them, none loaded, all in service and trusted (or, without `healthy`, as they
    are).
    """
    other = copy.copy(fleet)
    other.inventory = replace(fleet.inventory, limits=None)
    other.standing, other.services, other.shunned = defaultdict(list), defaultdict(Counter), defaultdict(Counter)
    other.journal, other.forgotten, other.shapes = [], 0, {}
    other.in_service = np.ones_like(fleet.in_service) if healthy else fleet.in_service
    other.max_builds = most_builds(fleet.machines, trusted=True) if healthy else fleet.max_builds
    other.free, other.used = fleet.usable.copy(), np.zeros_like(fleet.used)
    other.nodes, other.building = np.zeros_like(fleet.nodes), np.zeros_like(fleet.building)
    other.kept = np.zeros_like(fleet.kept)
    uplinks = [[np.inf if most is None else most for most in (z.uplink_in, z.uplink_out)] for z in fleet.zones]
    other.uplink_free = np.array(uplinks, dtype=float).reshape(len(fleet.zones), 2).T.copy()
    limited = np.isfinite(fleet.usable[:SPARE_DIMS]) & other.in_service
    room = np.where(limited, fleet.usable[:SPARE_DIMS], 0.0)
    other.open = limited.astype(float)
    other.zone_free = np.array([np.bincount(fleet.zone, row, minlength=len(fleet.zones)) for row in room])
    return other


_InPlace = Free | FreeUplink | GiveBack | Clear | MoveServices | FinishBuilds | Measure | Unload | ReturnToService


def apply(fleet: Fleet, change: WorldChange) -> Fleet:
    """Change a fleet that `what_if` made, in place where the machines stay the same; the changed one."""
    if isinstance(change, AddMachines):
        return _added(fleet, change)
    _change(fleet, change)
    return fleet


def _change(fleet: Fleet, change: _InPlace) -> None:
    if isinstance(change, GiveBack | Clear | MoveServices):
        _leave(fleet, change)
    elif isinstance(change, FreeUplink):
        zone = [one.name for one in fleet.zones].index(change.zone)
        fleet.uplink_free[:, zone] += (change.network_in, change.network_out)
    else:
        _change_row(fleet, fleet.row[change.machine], change)


def _change_row(fleet: Fleet, row: int, change: Free | FinishBuilds | Measure | Unload | ReturnToService) -> None:
    if isinstance(change, Free):
        _free(fleet, row, np.asarray(change.room))
    elif isinstance(change, FinishBuilds):
        fleet.building[row] = max(0, fleet.building[row] - change.builds)
    elif isinstance(change, Measure):
        fleet.stale[row] = False
    elif isinstance(change, Unload):
        fleet.headroom[:, row] += change.room
    elif isinstance(change, ReturnToService):
        _return(fleet, row)
    else:
        assert_never(change)
    fleet.journal.append(row)


def _free(fleet: Fleet, row: int, most: Floats) -> None:
    """No more than is promised can be given back; what is not limited is never short."""
    usable = fleet.usable[:, row]
    limited = np.isfinite(usable)
    room = np.minimum(most, np.subtract(usable, fleet.free[:, row], out=np.zeros_like(usable), where=limited))
    fleet.used[:, row] -= room[:SPARE_DIMS]
    fleet.free[:, row] += room
    fleet.zone_free[:, fleet.zone[row]] += room[:SPARE_DIMS] * fleet.open[:, row]
    fleet.uplink_free[:, fleet.zone[row]] += room[NETWORK]


def _leave(fleet: Fleet, change: GiveBack | Clear | MoveServices) -> None:
    """Nodes go; those of their environments on other machines stay, unless the environment is given back."""
    fleet.standing = fleet.standing.copy()
    fleet.services, fleet.shunned = _own(fleet.services), _own(fleet.shunned)
    touched = [id for id, nodes in fleet.standing.items() if any(_goes(node, change) for node in nodes)]
    for environment in touched:
        nodes = fleet.remove(environment)
        fleet.add(node for node in nodes if not _goes(node, change))


def _goes(node: Standing, change: GiveBack | Clear | MoveServices) -> bool:
    if isinstance(change, GiveBack):
        return node.environment == change.environment
    if isinstance(change, Clear):
        return node.machine == change.machine
    return node.machine == change.machine and node.service in change.services


def _return(fleet: Fleet, row: int) -> None:
    fleet.in_service[row] = True
    fleet.shapes = {}
    limited = np.isfinite(fleet.usable[:SPARE_DIMS, row])
    fleet.open[:, row] = limited
    fleet.zone_free[:, fleet.zone[row]] += np.where(limited, fleet.free[:SPARE_DIMS, row], 0.0)


def _added(fleet: Fleet, change: AddMachines) -> Fleet:
    """A fleet built anew, with idle machines added: it knows nothing of earlier changes that `apply` made."""
    names = [f"{change.like}+{number}" for number in range(1, change.count + 1)]
    model = _like(fleet.inventory.machine(change.like), change)
    machines = (*fleet.inventory.machines, *(replace(model, name=name) for name in names))
    nodes = [node for nodes in fleet.standing.values() for node in nodes]
    idle = {name: Load(float(fleet.load_at.max(initial=0.0)), {}) for name in names}
    other = Fleet(replace(fleet.inventory, machines=machines), nodes, {**fleet.loads, **idle})
    if fleet.inventory.limits is not None:
        stale = {one.name for one, is_stale in zip(fleet.machines, fleet.stale, strict=True) if is_stale}
        other.stale = np.array([one.name in stale for one in other.machines], dtype=bool)
    return other


def _like(machine: Machine, change: AddMachines) -> Machine:
    least = dict(zip(DIMENSIONS, change.least, strict=False))
    capacity = {name: max(amount, least.get(name, 0.0)) for name, amount in machine.capacity.items()}
    return replace(machine.to(MachineState.IN_SERVICE, 0.0, ""), zone=change.zone, capacity=capacity)


def asked_less(request: Request, change: RequestChange) -> Request:
    """The request after it gave something up."""
    if isinstance(change, LetSpread):
        return replace(request, within=Within.ANYWHERE)
    roles = tuple(_role(role, change) if role.role == change.role else role for role in request.roles)
    return replace(request, roles=roles)


def _role(role: RoleRequest, change: RequestChange) -> RoleRequest:
    if isinstance(change, LowerCount):
        return replace(role, count=change.to)
    if isinstance(change, AskLess):
        return replace(role, demand=_with(role.demand, change.dimension, change.to))
    return replace(role, rules=_rules(role.rules, change))


def _with(demand: Vector, dimension: str, to: float) -> Vector:
    return tuple(to if name == dimension else value for name, value in zip(DIMENSIONS, demand, strict=True))


def _rules(rules: PlacementRules, change: RequestChange) -> PlacementRules:
    if isinstance(change, DropRule):
        return replace(rules, affinities=tuple(one for one in rules.affinities if one != change.rule))
    if isinstance(change, RaiseZoneShare):
        return replace(rules, max_per_zone=change.to)
    if isinstance(change, Gather):
        return replace(rules, spread=Spread.NONE)
    if isinstance(change, LeaveNear):
        return replace(rules, near=None)
    if isinstance(change, LeaveService):
        return replace(rules, near_service=None)
    if isinstance(change, FallBack):
        return replace(rules, bare_metal=BareMetal.WANTED)
    if isinstance(change, ShareMachines):
        return replace(rules, apart_from=())
    raise AssertionError(f"{change} changes no rule")
