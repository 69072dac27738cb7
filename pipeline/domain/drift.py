"""What the books say of nodes against the servers that a provider shows: each difference, and the safe next act."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain.environments import STANDING_STATES, Environment, EnvironmentState, Node, NodeState
from pipeline.domain.inventory import Inventory, Machine
from pipeline.domain.placement.requests import demand_of
from pipeline.domain.resizing import replaces
from pipeline.domain.resources import DIMENSIONS

#: States of a node whose server exists and runs.
EXPECTED = frozenset({NodeState.ACTIVE, NodeState.REACHABLE, NodeState.IN_SERVICE, NodeState.DRAINING})
RUNS = "active"


class Drift(StrEnum):
    """How a server and the books differ. `stranger`: it bears no mark of ours, and is never touched."""

    STRANGER = "stranger"
    UNKNOWN = "unknown"
    MISSING = "missing"
    SIZE = "size"
    ZONE = "zone"
    MACHINE = "machine"
    STATE = "state"
    NAME = "name"


@dataclass(frozen=True)
class Server:
    """One server as its provider shows it. `status` is the provider's word in lower case, but `building` and `active`.

    `size` by dimension, where the provider tells it. `project` is the cloud's. `created_at` and `ends_at`: epoch
    seconds, 0 where they are not known. `deployment`, `environment_id`, `node` and `ends_at` are its mark.
    """

    id: str
    name: str
    status: str
    address: str = ""
    flavor: str = ""
    size: Mapping[str, float] = field(default_factory=dict)
    zone: str = ""
    machine: str = ""
    project: str = ""
    created_at: float = 0.0
    fault: str = ""
    deployment: str = ""
    environment_id: str = ""
    node: str = ""
    ends_at: float = 0.0


@dataclass(frozen=True)
class Alert:
    """A difference in words, and the command that is safe to give; empty where there is nothing to do for us."""

    drift: Drift
    text: str
    action: str = ""


@dataclass(frozen=True)
class Row:
    """A server, the node that it is, or both. `environment` is empty where no node of ours is meant."""

    server: Server | None = None
    environment: str = ""
    node: Node | None = None
    service: str = ""
    project: str = ""
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True)
class Told:
    """What is known beside the servers. `steady`: environments that did not change while the provider was asked: of
    the others nothing is said to be missing or different. `zones` and `machines` are the provider's own names.
    """

    deployment: str
    steady: frozenset[str]
    zones: frozenset[str] = frozenset()
    machines: frozenset[str] = frozenset()


def compare(books: Iterable[Environment], servers: Iterable[Server], told: Told) -> tuple[Row, ...]:
    """Every node of an environment that stands, and every server, in one row each.

    `books` has each environment that stands, and each that a server names, over or not.
    """
    by_id = {environment.id: environment for environment in books}
    ours: dict[tuple[str, str], list[Server]] = {}
    others: list[Row] = []
    for server in servers:
        if server.deployment != told.deployment:
            others.append(Row(server, project=server.project, alerts=(_stranger(server),)))
        elif _node_of(server, by_id) is None:
            others.append(_unknown(server, by_id.get(server.environment_id)))
        else:
            ours.setdefault((server.environment_id, server.node), []).append(server)
    rows = [row for environment in by_id.values() for row in _of_environment(environment, ours, told)]
    return (*rows, *others)


def _node_of(server: Server, by_id: Mapping[str, Environment]) -> Node | None:
    environment = by_id.get(server.environment_id)
    if environment is None or environment.state not in STANDING_STATES:
        return None
    return next((node for node in environment.nodes if node.name == server.node), None)


def _of_environment(
    environment: Environment, ours: Mapping[tuple[str, str], Sequence[Server]], told: Told
) -> Iterator[Row]:
    if environment.state not in STANDING_STATES:
        return
    for node in environment.nodes:
        found = sorted(ours.get((environment.id, node.name), ()), key=lambda one: (one.id != node.driver_id, one.id))
        server = found[0] if found else None
        row = Row(server, environment.id, node, environment.service, environment.project)
        watched = environment.id in told.steady and environment.state is not EnvironmentState.DESTROYING
        yield replace(row, alerts=tuple(_alerts(environment, node, server, told))) if watched else row
        yield from (_unknown(second, environment) for second in found[1:])


def _stranger(server: Server) -> Alert:
    whose = f"of deployment {server.deployment}" if server.deployment else "made by somebody else"
    return Alert(Drift.STRANGER, f"{whose}: Greenroom never touches it, and plans around the room it takes")


def _unknown(server: Server, environment: Environment | None) -> Row:
    """A server with our mark that is no node: the reaper takes care of whole environments, a person of the rest."""
    known = environment is not None and environment.state in STANDING_STATES
    if environment is not None and known:
        text = f"bears our mark, but environment {environment.id} has no such node: it goes with the environment"
        alert = Alert(Drift.UNKNOWN, text, _destroy(environment.id, f"a server too many: {server.id}"))
    else:
        why = "in no book" if environment is None else f"and its environment is {environment.state}"
        text = (
            f"bears our mark, {why}: on its second sighting it is adopted until its lease ends, or else taken back;"
            " nothing needs to be done"
        )
        alert = Alert(Drift.UNKNOWN, text, "greenroom audit")
    return Row(server, server.environment_id, service="", project=server.project, alerts=(alert,))


def _destroy(environment: str, why: str) -> str:
    return f'greenroom destroy {environment} --reason "{why}"'


def _alerts(environment: Environment, node: Node, server: Server | None, told: Told) -> Iterator[Alert]:
    if node.state not in EXPECTED | {NodeState.LOST}:
        return
    if server is None:
        yield _missing(environment, node)
        return
    again = _destroy(environment.id, f"{node.name} differs from what was asked for")
    yield from (replace(alert, action=alert.action or again) for alert in _differences(node, server, told))


def _missing(environment: Environment, node: Node) -> Alert:
    text = f"node {node.name} of {environment.id} is {node.state} in the books, but its server is gone"
    if replaces(environment):
        waits = f"{text}: it is replaced; nothing needs to be done"
        return Alert(Drift.MISSING, waits, f"greenroom env show {environment.id}")
    return Alert(Drift.MISSING, text, _destroy(environment.id, f"{node.name} is gone"))


def _differences(node: Node, server: Server, told: Told) -> Iterator[Alert]:
    if server.status != RUNS:
        fault = f": {server.fault}" if server.fault else ""
        yield Alert(Drift.STATE, f"it is {node.state} in the books, but its server is {server.status}{fault}")
    if wrong := ", ".join(_too_small(node, server)):
        yield Alert(Drift.SIZE, f"its server is not what was asked for: {wrong}")
    if node.zone in told.zones and server.zone not in {"", node.zone}:
        yield Alert(Drift.ZONE, f"placed in zone {node.zone}, but it stands in {server.zone}")
    if node.machine in told.machines and server.machine not in {"", node.machine}:
        yield Alert(Drift.MACHINE, f"placed on machine {node.machine}, but it stands on {server.machine}")
    if server.name != node.name:
        text = f"its server is called {server.name} now; its mark still says which node it is"
        yield Alert(Drift.NAME, text, f"openstack server set --name {node.name} {server.id}")


def _too_small(node: Node, server: Server) -> Iterator[str]:
    """A flavor that its project named has to be that one; any other only has to hold the node."""
    if node.custom.flavor:
        if server.flavor and server.flavor != node.custom.flavor:
            yield f"flavor {server.flavor} instead of {node.custom.flavor}"
        return
    wanted = {
        "vcpu": float(math.ceil(node.resources.vcpu)),
        "memory_mib": float(node.resources.memory_mib + node.resources.hugepages_mib),
        "disk_gib": float(node.resources.disk_gib),
    }
    for name, amount in wanted.items():
        if server.size.get(name, amount) < amount:
            yield f"{name} {server.size[name]:g} instead of {amount:g}"


def without_others(inventory: Inventory, used: Mapping[str, Mapping[str, float]], rows: Iterable[Row]) -> Inventory:
    """The inventory with what the nodes in our books do not account for taken off each machine's capacity.

    `used`: what all servers together take of a machine, by dimension. What is placed on a machine in the books, and
    stands there, is counted by placement, but no more than was asked for; everything else there is others', also what
    a flavor has beyond its node. A capacity is multiplied by its ratio of overcommit, so that what others use counts
    that much less of it.
    """
    ours: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.node is not None and row.server is not None and row.node.machine == row.server.machine:
            own = ours.setdefault(row.server.machine, {})
            counted = dict(zip(DIMENSIONS, demand_of(row.node.resources, row.node.qos), strict=True))
            for name, amount in row.server.size.items():
                own[name] = own.get(name, 0.0) + min(amount, counted[name])
    machines = (_less(one, used.get(one.name, {}), ours.get(one.name, {})) for one in inventory.machines)
    return replace(inventory, machines=tuple(machines))


def _less(machine: Machine, used: Mapping[str, float], ours: Mapping[str, float]) -> Machine:
    def left(name: str, amount: float) -> float:
        others = max(0.0, used.get(name, 0.0) - ours.get(name, 0.0))
        return max(0.0, amount - others / machine.overcommit.get(name, 1.0))

    return replace(machine, capacity={name: left(name, amount) for name, amount in machine.capacity.items()})
