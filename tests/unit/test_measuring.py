"""Machines are measured where their load limits them, and nodes are built where placement put them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

LIMITS = LoadLimits(full={"vcpu": 0.8}, stale_s=30.0)


def machines(limits: LoadLimits | None) -> Inventory:
    names = ("rack-a-1", "rack-b-1")
    capacity = {"vcpu": 8.0, "memory_mib": 8192.0, "disk_gib": 100.0}
    return Inventory(
        tuple(Machine(name, name[:6], capacity) for name in names), (Zone("rack-a"), Zone("rack-b")), limits=limits
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    return world


def measured(world: World, **used: float) -> dict[str, Load]:
    return {name.replace("_", "-"): Load(world.clock.now(), {"vcpu": share}) for name, share in used.items()}


def test_nodes_are_built_where_placement_put_them(world: World) -> None:
    world.inventories.sync("cloud", machines(None))
    roles = {"web": {"count": 2, "spread": "zone"}}
    world.push("shop", {**USUAL, "environment": {"image": "debian-12", "roles": roles}})
    world.cloud.slow = True
    world.settle()
    (environment,) = world.all_environments()
    places = {node.name: node.machine for node in environment.nodes}
    assert sorted(places.values()) == ["rack-a-1", "rack-b-1"]
    assert {name: view.machine for (_, name), view in world.cloud.nodes.items()} == places
    assert environment.built_at == 0
    world.advance(5)
    world.cloud.finish()
    finished = world.clock.now()
    world.advance(5)
    (environment,) = world.all_environments()
    assert finished <= environment.built_at < finished + 5


def test_a_limited_provider_is_measured_every_few_seconds(world: World) -> None:
    world.inventories.sync("cloud", machines(LIMITS))
    world.cloud.loads = measured(world, rack_a_1=0.3, elsewhere=0.9)
    world.settle()
    assert world.inventories.loads("cloud") == measured(world, rack_a_1=0.3)
    world.cloud.loads = measured(world, rack_a_1=0.5, rack_b_1=0.1)
    world.advance(6)
    assert world.inventories.loads("cloud") == world.cloud.loads


def test_where_nothing_limits_nothing_is_measured(world: World) -> None:
    world.inventories.sync("cloud", machines(None))
    world.cloud.loads = measured(world, rack_a_1=0.3)
    world.advance(6)
    assert world.inventories.loads("cloud") == {}


def test_a_driver_that_measures_nothing_leaves_what_others_report(world: World) -> None:
    world.inventories.sync("cloud", machines(LIMITS))
    reported = measured(world, rack_a_1=0.3)
    world.inventories.report_loads("cloud", reported)
    world.advance(6)
    assert world.inventories.loads("cloud") == reported


def test_who_asks_waits_until_machines_are_measured_and_goes_where_there_is_room(world: World) -> None:
    world.inventories.sync("cloud", machines(LIMITS))
    world.push("shop", USUAL)
    world.advance(3)
    (environment,) = world.all_environments()
    assert environment.state is EnvironmentState.REQUESTED
    assert "its load was not measured lately" in environment.reason
    world.cloud.loads = measured(world, rack_a_1=0.79, rack_b_1=0.2)
    world.advance(8)
    (environment,) = world.all_environments()
    assert [node.machine for node in environment.nodes] == ["rack-b-1"]
