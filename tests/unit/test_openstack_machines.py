"""How services, aggregates and Placement's inventories become machines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from pipeline.adapters.clouds.openstack import machines, servers
from pipeline.domain.inventory import MachineKind, MachineState

if TYPE_CHECKING:
    from openstack.connection import Connection

HARDWARE = SimpleNamespace(name="hardware-X", hosts=["h1"], metadata={"hardware": "X"}, availability_zone=None)
RACK = SimpleNamespace(
    name="rack-a", hosts=["h1"], metadata={"availability_zone": "rack-a"}, availability_zone="rack-a"
)
VCPU = {"VCPU": {"total": 16, "reserved": 2, "allocation_ratio": 4.0}}
METAL = {"CUSTOM_GOLD": {"total": 1, "reserved": 0, "allocation_ratio": 1.0}}


def service(**changed: Any) -> SimpleNamespace:
    usual = {"host": "h1", "availability_zone": "rack-a", "status": "enabled", "state": "up", "disabled_reason": None}
    return SimpleNamespace(**{**usual, **changed})


def test_a_hypervisor_is_named_as_its_service_and_holds_what_is_not_reserved() -> None:
    machine = machines._machine(SimpleNamespace(name="h1.example.org"), service(), VCPU, [HARDWARE, RACK])
    assert (machine.name, machine.zone, machine.kind) == ("h1", "rack-a", MachineKind.HYPERVISOR)
    assert (machine.capacity, machine.overcommit) == ({"vcpu": 14.0, "memory_mib": 0.0}, {"vcpu": 4.0})
    assert machine.aggregates == ("hardware-X",)
    assert machines._aggregate(HARDWARE).features == {"hardware", "hardware=X"}


def test_a_class_of_its_own_and_no_cores_is_bare_metal() -> None:
    machine = machines._machine(SimpleNamespace(name="metal-7"), service(), METAL, [])
    assert (machine.name, machine.kind) == ("metal-7", MachineKind.BARE_METAL)
    assert machine.features == {"CUSTOM_GOLD"}
    assert machine.capacity == {}


def test_a_hypervisor_of_which_nothing_is_counted_holds_nothing() -> None:
    answers = SimpleNamespace(get=lambda _: SimpleNamespace(status_code=404))
    inventory = machines._asked(cast("Connection", SimpleNamespace(placement=answers)), "h1", "inventories")
    machine = machines._machine(SimpleNamespace(name="h1"), service(), inventory, [])
    assert (machine.name, machine.kind) == ("h1", MachineKind.HYPERVISOR)
    assert machine.capacity == {"vcpu": 0.0, "memory_mib": 0.0}


@pytest.mark.parametrize(
    ("changed", "state", "reason"),
    [
        ({}, MachineState.IN_SERVICE, ""),
        ({"status": "disabled", "disabled_reason": "a new disk"}, MachineState.MAINTENANCE, "disabled, a new disk"),
        ({"status": "disabled", "state": "down"}, MachineState.MAINTENANCE, "disabled, no reason given"),
        ({"state": "down"}, MachineState.DOWN, "its nova-compute is down"),
    ],
)
def test_what_a_service_says_is_the_machines_state(changed: dict[str, str], state: MachineState, reason: str) -> None:
    machine = machines._machine(SimpleNamespace(name="h1"), service(**changed), VCPU, [])
    assert machine.state is state
    assert machine.state_reason == (f"the cloud says: {reason}" if reason else "")


def test_a_server_without_a_mark_shows_its_floating_address_and_no_mark() -> None:
    fixed = {"addr": "10.0.0.5", "OS-EXT-IPS:type": "fixed"}
    floating = {"addr": "172.24.4.9", "OS-EXT-IPS:type": "floating"}
    found = SimpleNamespace(
        id="s1",
        name="theirs",
        status="BUILD",
        metadata={"greenroom-ends-at": "soon"},
        addresses={"net": [fixed, floating]},
        flavor={"original_name": "m1.tiny", "vcpus": 1, "ram": 512, "disk": 0},
        availability_zone=None,
        compute_host=None,
        project_id="p",
        created_at="2026-11-26T12:00:00Z",
        fault=None,
    )
    server = servers.server_of(found)
    assert (server.address, server.status, server.flavor, server.deployment) == (
        "172.24.4.9",
        "building",
        "m1.tiny",
        "",
    )
    assert server.size == {"vcpu": 1.0, "memory_mib": 512.0, "disk_gib": 0.0}
    assert server.created_at == 1795694400.0
