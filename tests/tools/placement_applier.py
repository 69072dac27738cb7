"""Does what a remedy says, in plain Python, to what placement is asked about: the inventory, what stands, the request.

It knows nothing of how placement tries a change out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pipeline.domain.inventory import Inventory, Load, Machine, MachineState, overcommit_of
from pipeline.domain.placement import changes
from pipeline.domain.placement.changes import Change
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Decision, Request, RoleRequest, Standing
from pipeline.domain.resources import DIMENSIONS, Vector
from pipeline.domain.rules import BareMetal, Spread, Within


@dataclass(frozen=True)
class Case:
    """One question to placement, whole."""

    inventory: Inventory
    request: Request
    standing: tuple[Standing, ...] = ()
    loads: Mapping[str, Load] = field(default_factory=dict)
    now: float = 1000.0

    def fleet(self) -> Fleet:
        return Fleet(self.inventory, self.standing, self.loads)

    def decide(self) -> Decision:
        return decide(self.fleet(), self.request, self.now)


def done(case: Case, steps: Iterable[Change]) -> Case:
    """The question after somebody did all of the steps."""
    for step in steps:
        case = _done(case, step)
    return case


def _done(case: Case, step: Change) -> Case:
    match step:
        case changes.Measure() | changes.Unload():
            return replace(case, loads={**case.loads, step.machine: _measured(case, step)})
        case changes.ReturnToService(machine):
            machines = [_in_service(one) if one.name == machine else one for one in case.inventory.machines]
            return replace(case, inventory=replace(case.inventory, machines=tuple(machines)))
        case changes.AddMachines():
            return _grown(case, step)
        case changes.LetSpread():
            return replace(case, request=replace(case.request, within=Within.ANYWHERE))
    standing = _after(case, step)
    if standing is not None:
        return replace(case, standing=standing)
    return replace(case, request=_asked(case.request, step))


def _after(case: Case, step: Change) -> tuple[Standing, ...] | None:
    """What stands after a step that takes something away; None: it takes nothing away."""
    nodes = case.standing
    match step:
        case changes.Free(machine, room):
            return _less(nodes, {machine}, room)
        case changes.FreeUplink(zone, network_in, network_out):
            inside = {one.name for one in case.inventory.machines if one.zone == zone}
            rates = {"network_in": network_in, "network_out": network_out}
            return _less(nodes, inside, tuple(rates.get(name, 0.0) for name in DIMENSIONS))
        case changes.GiveBack(environment):
            return tuple(node for node in nodes if node.environment != environment)
        case changes.Clear(machine):
            return tuple(node for node in nodes if node.machine != machine)
        case changes.MoveServices(machine, services):
            return tuple(node for node in nodes if node.machine != machine or node.service not in services)
        case changes.FinishBuilds(machine, builds):
            return _built(nodes, machine, builds)
    return None


def _less(standing: Iterable[Standing], machines: set[str], room: Vector) -> tuple[Standing, ...]:
    """Nodes on some machines, which take so much less together."""
    left, shrunk = list(room), []
    for node in standing:
        gone = [min(a, b) if node.machine in machines else 0.0 for a, b in zip(node.demand, left, strict=True)]
        left = [a - b for a, b in zip(left, gone, strict=True)]
        shrunk.append(node._replace(demand=tuple(a - b for a, b in zip(node.demand, gone, strict=True))))
    return tuple(shrunk)


def _built(standing: Iterable[Standing], machine: str, builds: int) -> tuple[Standing, ...]:
    nodes = []
    for node in standing:
        over = node.building and node.machine == machine and builds > 0
        builds -= over
        nodes.append(node._replace(building=False) if over else node)
    return tuple(nodes)


def _measured(case: Case, step: changes.Measure | changes.Unload) -> Load:
    """A new measurement that says the same, or the same measurement with so much of the machine's capacity less: below
    zero too, as what was placed since counts on top."""
    load = case.loads.get(step.machine, Load(case.now, {}))
    if isinstance(step, changes.Measure):
        return Load(case.now, load.used)
    capacity = case.inventory.machine(step.machine).capacity
    less = {name: by / capacity[name] for name, by in zip(DIMENSIONS, step.room, strict=True) if by}
    return Load(load.at, {**load.used, **{name: load.used.get(name, 0.0) - by for name, by in less.items()}})


def _in_service(machine: Machine) -> Machine:
    return replace(machine, state=MachineState.IN_SERVICE)


def _grown(case: Case, step: changes.AddMachines) -> Case:
    like = case.inventory.machine(step.like)
    ratios = dict(zip(DIMENSIONS, overcommit_of(like, case.inventory), strict=True))
    least = dict(zip(DIMENSIONS, step.least, strict=False))
    capacity = {
        name: max(amount, least.get(name, 0.0) / min(1.0, ratios[name])) for name, amount in like.capacity.items()
    }
    new = [
        replace(_in_service(like), name=f"new-{number}", zone=step.zone, capacity=capacity)
        for number in range(step.count)
    ]
    loads = {**case.loads, **{one.name: Load(case.now, {}) for one in new}}
    inventory = replace(case.inventory, machines=(*case.inventory.machines, *new))
    return replace(case, inventory=inventory, loads=loads)


def _asked(request: Request, step: Change) -> Request:
    roles = [_given_up(role, step) if role.role == getattr(step, "role", "") else role for role in request.roles]
    assert tuple(roles) != request.roles, f"nobody can do this: {step}"
    return replace(request, roles=tuple(roles))


def _given_up(role: RoleRequest, step: Change) -> RoleRequest:
    rules = role.rules
    match step:
        case changes.LowerCount(_, to):
            return replace(role, count=to)
        case changes.AskLess(_, dimension, to):
            demand = [to if name == dimension else now for name, now in zip(DIMENSIONS, role.demand, strict=True)]
            return replace(role, demand=tuple(demand))
        case changes.DropRule(_, rule):
            rules = replace(rules, affinities=tuple(one for one in rules.affinities if one != rule))
        case changes.RaiseZoneShare(_, to):
            rules = replace(rules, max_per_zone=to)
        case changes.Gather():
            rules = replace(rules, spread=Spread.NONE)
        case changes.LeaveNear():
            rules = replace(rules, near=None)
        case changes.LeaveService():
            rules = replace(rules, near_service=None)
        case changes.FallBack():
            rules = replace(rules, bare_metal=BareMetal.WANTED)
        case changes.ShareMachines():
            rules = replace(rules, apart_from=())
        case _:
            return role
    return replace(role, rules=rules)
