"""Small random inventories and requests, for properties of placement."""

from __future__ import annotations

import random
from dataclasses import replace

from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, MachineKind, MachineState, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest
from pipeline.domain.qos import QosClass
from pipeline.domain.resources import NOTHING, Vector
from pipeline.domain.rules import Affinity, Attribute, BareMetal, PlacementRules, Spread, Stance, Within
from tests.tools.placement_applier import Case


def demand(vcpu: float, memory_mib: float, disk_gib: float = 1.0, network: float = 0.0) -> Vector:
    return (vcpu, memory_mib, disk_gib, *NOTHING[3:7], network, network, 0.0)


def inventory(dice: random.Random, machines: int, zones: int) -> Inventory:
    """Machines of a few sizes in random zones, now and then out of service or bare metal."""
    return Inventory(
        machines=tuple(_machine(dice, number, zones) for number in range(machines)),
        zones=tuple(Zone(f"z{number}", f"r{number % 2}") for number in range(zones)),
    )


def _machine(dice: random.Random, number: int, zones: int) -> Machine:
    size = dice.choice([2, 4, 8])
    return Machine(
        f"m{number}",
        f"z{dice.randrange(zones)}",
        {"vcpu": float(size), "memory_mib": size * 1024.0, "disk_gib": 100.0},
        kind=MachineKind.BARE_METAL if dice.random() < 0.15 else MachineKind.HYPERVISOR,
        features=frozenset({"ssd"}) if dice.random() < 0.5 else frozenset(),
        state=MachineState.QUARANTINED if dice.random() < 0.1 else MachineState.IN_SERVICE,
        max_builds=dice.choice([None, None, 2]),
    )


def request(dice: random.Random, name: str, services: int = 3) -> Request:
    """An environment of one to three roles with random rules."""
    number = dice.randrange(services)
    roles = [_role(dice, f"role{at}", services) for at in range(dice.randint(1, 3))]
    within = dice.choice([Within.ANYWHERE, Within.ANYWHERE, Within.ANYWHERE, Within.ZONE])
    return Request(name, "p", f"s{number}", tuple(roles), within)


def _role(dice: random.Random, name: str, services: int) -> RoleRequest:
    size = dice.choice([0.5, 1, 2, 3])
    ssd = Affinity(dice.choice([Stance.REQUIRE, Stance.FORBID, Stance.PREFER]), Attribute.FEATURE, ("ssd",))
    rules = PlacementRules(
        affinities=(ssd,) if dice.random() < 0.3 else (),
        spread=dice.choice(list(Spread)),
        max_per_zone=dice.choice([None, None, 2]),
        apart_from=(f"s{dice.randrange(services)}",) if dice.random() < 0.2 else (),
        bare_metal=dice.choice([None, None, None, BareMetal.WANTED]),
        near_service=f"s{dice.randrange(services)}" if dice.random() < 0.1 else None,
    )
    return RoleRequest(name, dice.randint(1, 3), demand(size, dice.choice([256, 1024, 1536, 2048])), rules=rules)


NOW = 1000.0


def crowded(dice: random.Random) -> Case:
    """A request to machines on which others stand already, with every rule that there is."""
    here = _rich(dice)
    loads = {one.name: Load(dice.choice([NOW, NOW, NOW - 100]), _busy(dice)) for one in here.machines}
    fleet = Fleet(here, loads=loads)
    for number in range(dice.randint(0, 12)):
        other = rich_request(dice, f"other-{number}")
        answer = decide(fleet, other, NOW, explain=False)
        if isinstance(answer, Placed):
            fleet.reserve(other, answer, NOW - dice.choice([5, -5]))
            if dice.random() < 0.5:
                fleet.built(other.environment, NOW)
    standing = tuple(node for nodes in fleet.standing.values() for node in nodes)
    changed = tuple(_state(dice, one) for one in here.machines)
    return Case(replace(here, machines=changed), rich_request(dice, "env"), standing, loads, NOW)


def _rich(dice: random.Random) -> Inventory:
    """With uplinks, overcommit, limits of measured load, and zones that may fail."""
    zones = dice.randint(1, 4)
    plain = inventory(dice, dice.randint(1, 7), zones)
    uplink = dice.choice([None, None, 1e9])
    return replace(
        plain,
        zones=tuple(Zone(f"z{number}", f"r{number % 2}", uplink, uplink) for number in range(zones)),
        overcommit={"vcpu": 2.0} if dice.random() < 0.3 else {},
        spare_zones=frozenset({QosClass.GUARANTEED}) if dice.random() < 0.2 else frozenset(),
        limits=LoadLimits(full={"vcpu": 0.9}, stale_s=60.0) if dice.random() < 0.3 else None,
    )


def _busy(dice: random.Random) -> dict[str, float]:
    return {"vcpu": dice.choice([0.0, 0.2, 0.5, 0.85])}


def _state(dice: random.Random, machine: Machine) -> Machine:
    if dice.random() < 0.15:
        return machine.to(dice.choice([MachineState.DRAINING, MachineState.DOWN]), NOW - 60, "a disk is slow")
    return machine


def rich_request(dice: random.Random, name: str) -> Request:
    """A request that may want rates, promises, nearness, and rules about zones and regions too."""
    plain = request(dice, name)
    names = [role.role for role in plain.roles]
    roles = tuple(_rich_role(dice, role, names[:at]) for at, role in enumerate(plain.roles))
    within = dice.choice([plain.within, plain.within, Within.REGION])
    return replace(plain, roles=roles, within=within)


def _rich_role(dice: random.Random, role: RoleRequest, before: list[str]) -> RoleRequest:
    rules = role.rules
    if before and dice.random() < 0.3:
        rules = replace(rules, near=dice.choice(before))
    if dice.random() < 0.2:
        stance, attribute = (
            dice.choice([Stance.REQUIRE, Stance.FORBID]),
            dice.choice([Attribute.ZONE, Attribute.REGION]),
        )
        value = f"{attribute.value[0]}{dice.randrange(2)}"
        rules = replace(rules, affinities=(*rules.affinities, Affinity(stance, attribute, (value,), "operator rule x")))
    if dice.random() < 0.1:
        rules = replace(rules, bare_metal=BareMetal.REQUIRED)
    vcpu, memory = role.demand[:2]
    asked = demand(vcpu, memory, network=dice.choice([0.0, 0.0, 3e8]))
    firm = dice.choice([QosClass.BURSTABLE, QosClass.GUARANTEED])
    return replace(role, rules=rules, demand=asked, qos_class=firm)
