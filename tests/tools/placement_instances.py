"""Small random inventories and requests, for properties of placement."""

from __future__ import annotations

import random

from pipeline.domain.inventory import Inventory, Machine, MachineKind, MachineState, Zone
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.resources import NOTHING, Vector
from pipeline.domain.rules import Affinity, Attribute, BareMetal, PlacementRules, Spread, Stance, Within


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
