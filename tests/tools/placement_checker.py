"""Judges a placement by the words of the rules alone, in plain Python, as slowly as it likes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from pipeline.domain.inventory import Inventory, Machine, MachineKind, MachineState, traits_of, usable
from pipeline.domain.placement.model import Placed, Request, RoleRequest, Standing
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import BareMetal, Spread, Stance, Within


def broken(inventory: Inventory, standing: Iterable[Standing], request: Request, placed: Placed) -> list[str]:
    """Every rule that the placement breaks."""
    there = list(standing)
    by_name = {machine.name: machine for machine in inventory.machines}
    wrong = [
        f"{role.role}: {len(placed.machines[role.role])} machines for {role.count} nodes"
        for role in request.roles
        if len(placed.machines[role.role]) != role.count
    ]
    for role in request.roles:
        for name in placed.machines[role.role]:
            wrong += _node(inventory, there, request, role, by_name[name])
        wrong += _role(inventory, there, request, role, placed, by_name)
    return wrong + _machines(inventory, there, request, placed) + _together(inventory, request, placed, by_name)


def _permits(inventory: Inventory, role: RoleRequest, machine: Machine) -> bool:
    if role.rules.bare_metal is BareMetal.REQUIRED and machine.kind is not MachineKind.BARE_METAL:
        return False
    for rule in role.rules.affinities:
        has = bool(traits_of(machine, rule.attribute, inventory) & set(rule.values))
        if (rule.stance is Stance.REQUIRE and not has) or (rule.stance is Stance.FORBID and has):
            return False
    return True


def _node(
    inventory: Inventory, there: list[Standing], request: Request, role: RoleRequest, machine: Machine
) -> list[str]:
    wrong = []
    if machine.state is not MachineState.IN_SERVICE:
        wrong.append(f"{machine.name} is {machine.state}")
    if not _permits(inventory, role, machine):
        wrong.append(f"{machine.name} breaks a rule of {role.role}")
    for node in there:
        shunned = node.service in role.rules.apart_from or request.service in node.apart_from
        if node.machine == machine.name and shunned:
            wrong.append(f"{machine.name}: {request.service} stands beside {node.service}")
    return wrong


def _role(
    inventory: Inventory,
    there: list[Standing],
    request: Request,
    role: RoleRequest,
    placed: Placed,
    by_name: dict[str, Machine],
) -> list[str]:
    wrong = []
    permitted = [machine for machine in inventory.machines if _permits(inventory, role, machine)]
    machines = Counter(placed.machines[role.role])
    zones = Counter(by_name[name].zone for name in placed.machines[role.role])
    if role.rules.spread is Spread.MACHINE and max(machines.values()) > -(-role.count // len(permitted)):
        wrong.append(f"{role.role} is not spread over machines")
    share = -(-role.count // len({machine.zone for machine in permitted}))
    if role.rules.spread is Spread.ZONE and max(zones.values()) > share:
        wrong.append(f"{role.role} is not spread over zones")
    if role.rules.max_per_zone is not None and max(zones.values()) > role.rules.max_per_zone:
        wrong.append(f"{role.role}: too many in a zone")
    if role.rules.near is not None:
        target = {by_name[name].zone for name in placed.machines[role.rules.near]}
        if not set(zones) <= target:
            wrong.append(f"{role.role} is not near {role.rules.near}")
    if role.rules.near_service is not None:
        beside = {
            by_name[node.machine].zone
            for node in there
            if (node.project, node.service) == (request.project, role.rules.near_service)
        }
        if not set(zones) <= beside:
            wrong.append(f"{role.role} is not near service {role.rules.near_service}")
    return wrong


def _machines(inventory: Inventory, there: list[Standing], request: Request, placed: Placed) -> list[str]:
    used: dict[str, list[float]] = defaultdict(lambda: [0.0] * len(DIMENSIONS))
    nodes: Counter[str] = Counter()
    builds: Counter[str] = Counter()
    for node in there:
        nodes[node.machine] += 1
        builds[node.machine] += node.building
        used[node.machine] = [a + b for a, b in zip(used[node.machine], node.demand, strict=True)]
    for role in request.roles:
        for name in placed.machines[role.role]:
            nodes[name] += 1
            builds[name] += 1
            used[name] = [a + b for a, b in zip(used[name], role.demand, strict=True)]
    wrong = []
    chosen = {name for names in placed.machines.values() for name in names}
    for machine, most in zip(inventory.machines, usable(inventory), strict=True):
        if machine.name not in chosen:
            continue
        if any(a > b * (1 + 1e-6) for a, b in zip(used[machine.name], most, strict=True)):
            wrong.append(f"{machine.name} is overbooked")
        if machine.kind is MachineKind.BARE_METAL and nodes[machine.name] > 1:
            wrong.append(f"{machine.name} is not leased whole")
        if machine.max_builds is not None and builds[machine.name] > machine.max_builds:
            wrong.append(f"{machine.name}: too many builds")
    return wrong


def _together(inventory: Inventory, request: Request, placed: Placed, by_name: dict[str, Machine]) -> list[str]:
    zones = {by_name[name].zone for names in placed.machines.values() for name in names}
    regions = {zone.region for zone in inventory.zones if zone.name in zones}
    if request.within is Within.ZONE and len(zones) > 1:
        return ["it is not within one zone"]
    if request.within is Within.REGION and len(regions) > 1:
        return ["it is not within one region"]
    return []
