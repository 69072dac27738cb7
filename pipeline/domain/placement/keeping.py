"""Whether places that were reserved are still good, when machines changed between the reservation and the build."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from pipeline.domain.environments import Environment, Node
from pipeline.domain.inventory import MachineState
from pipeline.domain.placement.filters import SLACK, hard, keeps
from pipeline.domain.placement.fleet import NETWORK, Fleet
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.placement.requests import request_of
from pipeline.domain.placement.units import amount
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import OperatorRule


def lost_place(fleet: Fleet, environment: Environment, own: Iterable[OperatorRule] = ()) -> str:
    """Why the nodes of an environment cannot stand where they were placed; empty when they can.

    The fleet counts everything that stands or is reserved, the environment's own nodes, too. `own` are the rules of its
    project. A machine where its nodes failed is no place that it lost: it was sent there for want of others.
    """
    rules = (*own, *fleet.inventory.rules)
    roles = {role.role: role for role in request_of(replace(environment, avoid=()), rules).roles}
    placed = (node for node in environment.nodes if node.machine)
    return next((why for node in placed for why in _faults(fleet, node, roles[node.role])), "")


def _faults(fleet: Fleet, node: Node, role: RoleRequest) -> Iterator[str]:
    row = fleet.row.get(node.machine)
    if row is None:
        yield f"machine {node.machine} is not there any more"
        return
    machine = fleet.machines[row]
    if machine.state is not MachineState.IN_SERVICE and machine.name != role.rules.admitted:
        reason = f" ({machine.state_reason})" if machine.state_reason else ""
        yield f"machine {node.machine} is {machine.state}{reason}"
    if machine.zone != node.zone:
        yield f"machine {node.machine} stands in zone {machine.zone} now, no more in {node.zone}"
    for rule in hard(role):
        if not keeps(fleet, rule)[row]:
            yield f"machine {node.machine} does not keep the rule any more: {rule}"
    yield from _overbooked(fleet, row, role)


def _overbooked(fleet: Fleet, row: int, role: RoleRequest) -> Iterator[str]:
    """More is promised of what the role takes than there is now, on the machine or on the uplink of its zone."""
    need = np.asarray(role.demand)
    lack = np.where(-fleet.free[:, row] > SLACK * need, -fleet.free[:, row], 0.0)
    short = [amount(name, float(by)) for name, by in zip(DIMENSIONS, lack * (need > 0), strict=True) if by]
    if short:
        yield f"machine {fleet.machines[row].name} has become too small: {', '.join(short)} short"
    zone = int(fleet.zone[row])
    if np.any((need[NETWORK] > 0) & (fleet.uplink_free[:, zone] < -SLACK * need[NETWORK])):
        yield f"the uplink of zone {fleet.zones[zone].name} has become too narrow"
