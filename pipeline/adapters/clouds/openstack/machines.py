"""Hypervisors, their zones, aggregates and states, and what Placement counts of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack import each
from pipeline.domain.changes import REPORTED
from pipeline.domain.inventory import Aggregate, Inventory, Machine, MachineKind, MachineState, Zone

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Placement's classes of resources, by dimension.
CLASSES = {"vcpu": "VCPU", "memory_mib": "MEMORY_MB", "disk_gib": "DISK_GB"}
#: A hypervisor for which Placement counts none of these has none: it has not reported yet, or all its cores are
#: dedicated. Its disk may be a shared storage, which counts elsewhere.
OWN = ("vcpu", "memory_mib")
NOT_FOUND = 404
BARE_METAL = "CUSTOM_"
#: What says of an aggregate that it is a zone.
ZONE = "availability_zone"

Usage = Mapping[str, Mapping[str, float]]


def machines_of(connection: Connection) -> tuple[Inventory, Usage]:
    """The machines, and what is used of each: three calls, and two for each machine, eight of them at a time.

    Placement has no call that tells the inventories of several providers; the summaries beside allocation candidates
    leave out those that are full. A hypervisor is the resource provider of the same id; its name is its service's, by
    which Nova places and disables, but for bare metal, where one service stands for many machines.
    """
    services = {one.host: one for one in connection.compute.services(binary="nova-compute")}
    hypervisors = [one for one in connection.compute.hypervisors(details=True) if _host(one) in services]
    aggregates = list(connection.compute.aggregates())
    inventories = each(lambda one: _asked(connection, one.id, "inventories"), hypervisors)
    usages = each(lambda one: _asked(connection, one.id, "usages"), hypervisors)
    machines = [
        _machine(one, services[_host(one)], inventory, aggregates)
        for one, inventory in zip(hypervisors, inventories, strict=True)
    ]
    region = connection.config.get_region_name() or "default"
    zones = dict.fromkeys(machine.zone for machine in machines)
    found = Inventory(
        machines=tuple(sorted(machines, key=lambda one: one.name)),
        zones=tuple(Zone(name, region) for name in sorted(zones)),
        aggregates=tuple(_aggregate(one) for one in aggregates if _is_hardware(one)),
    )
    used = {one.name: _of_dimensions(usage) for one, usage in zip(machines, usages, strict=True)}
    return found, used


def _host(hypervisor: Any) -> str:
    return str(hypervisor.service_details["host"])


def _asked(connection: Connection, id: str, what: str) -> Mapping[str, Any]:
    """What Placement counts of a hypervisor; nothing before its first report, or after its last."""
    from openstack.exceptions import raise_from_response

    answer = connection.placement.get(f"/resource_providers/{id}/{what}")
    if answer.status_code == NOT_FOUND:
        return {}
    raise_from_response(answer)
    found: Mapping[str, Any] = answer.json()[what]
    return found


def _machine(
    hypervisor: Any, service: Any, inventory: Mapping[str, Mapping[str, float]], aggregates: Iterable[Any]
) -> Machine:
    bare = any(name.startswith(BARE_METAL) for name in inventory) and CLASSES["vcpu"] not in inventory
    told = {dimension: inventory[name] for dimension, name in CLASSES.items() if name in inventory}
    none = {} if bare else dict.fromkeys(OWN, 0.0)
    state, reason = _state(service)
    return Machine(
        name=hypervisor.name if bare else service.host,
        zone=service.availability_zone,
        capacity=none | {name: float(one["total"] - one["reserved"]) for name, one in told.items()},
        aggregates=tuple(sorted(one.name for one in aggregates if _is_hardware(one) and service.host in one.hosts)),
        kind=MachineKind.BARE_METAL if bare else MachineKind.HYPERVISOR,
        features=frozenset(name for name in inventory if name.startswith(BARE_METAL)),
        state=state,
        state_reason=reason,
        overcommit={name: float(one["allocation_ratio"]) for name, one in told.items()},
    )


def _state(service: Any) -> tuple[MachineState, str]:
    if service.status == "disabled":
        why = service.disabled_reason or "no reason given"
        return MachineState.MAINTENANCE, f"{REPORTED}disabled, {why}"
    if service.state != "up":
        return MachineState.DOWN, f"{REPORTED}its nova-compute is {service.state}"
    return MachineState.IN_SERVICE, ""


def _is_hardware(aggregate: Any) -> bool:
    """Whether it says more than which machines are a zone."""
    return bool(set(aggregate.metadata or {}) - {ZONE}) or not aggregate.availability_zone


def _aggregate(aggregate: Any) -> Aggregate:
    told = {key: value for key, value in (aggregate.metadata or {}).items() if key != ZONE}
    return Aggregate(aggregate.name, features=frozenset([*told, *(f"{key}={value}" for key, value in told.items())]))


def _of_dimensions(usages: Mapping[str, float]) -> Mapping[str, float]:
    return {dimension: float(usages[name]) for dimension, name in CLASSES.items() if name in usages}
