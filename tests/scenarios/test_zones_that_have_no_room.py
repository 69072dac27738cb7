"""No room where nobody is at fault: a zone that has none is left, a quota that has none is waited for."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.environments import Environment, NodeState
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.runs import Verdict
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.test_requests import INLINE, PLAIN, filled, made, now
from tests.scenarios.world import World

NO_ROOM = "No valid host was found."
#: More machines than there are tries.
FULL = tuple(f"a{number}" for number in range(1, 7))
#: An environment is placed four times at most.
MORE_THAN_PLACES = 5


def in_two_zones(world: World) -> None:
    """`rack-a` with machines that will have no room, and `rack-b` with one that has."""
    machines = (*(Machine(name, "rack-a", {"vcpu": 8.0}) for name in FULL), Machine("b1", "rack-b", {"vcpu": 8.0}))
    world.inventories.sync("cloud", Inventory(machines, (Zone("rack-a"), Zone("rack-b"))))


@pytest.mark.parametrize(("exact", "verdict", "builds"), [(False, Verdict.PASSED, 2), (True, Verdict.ERROR, 4)])
def test_a_zone_that_has_no_room_is_left_at_once(tmp_path: Path, *, exact: bool, verdict: Verdict, builds: int) -> None:
    world = usual_world(tmp_path)
    in_two_zones(world)
    world.cloud.exact = exact
    world.cloud.bad_machines = dict.fromkeys(FULL, NO_ROOM)
    roles = {"web": {"script": "setup.sh", "prefer": {"zone": "rack-a"}}}
    world.push("shop", {**USUAL, "environment": {"image": "debian-12", "roles": roles}})
    world.advance(900)
    (run,) = world.all_runs()
    assert run.verdict is verdict, run.reason
    assert world.cloud.made == builds
    (environment,) = world.all_environments()
    assert ({node.zone for node in environment.nodes} == {"rack-b"}) is not exact


def test_a_quota_that_was_full_when_a_node_was_built_is_waited_for(tmp_path: Path) -> None:
    """However long it takes: no machine is blamed, and no place given up."""
    world = usual_world(tmp_path, machines=2)
    world.cloud.faults, world.cloud.full = {"web-0": "Quota exceeded for instances"}, {"web-0"}
    world.push("shop", USUAL)
    world.advance(600)
    (waiting,) = world.all_environments()
    assert (waiting.placed_again, waiting.avoid) == (0, ())
    assert "Quota exceeded" in waiting.reason
    assert world.cloud.made > MORE_THAN_PLACES
    world.cloud.faults = {}
    world.advance(300)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.PASSED, run.reason
    assert {one.state for one in world.inventories.view("cloud").inventory.machines} == {MachineState.IN_SERVICE}


@pytest.mark.parametrize("exact", [False, True])
def test_a_machine_is_taken_out_only_where_nodes_stand_on_it_for_certain(tmp_path: Path, *, exact: bool) -> None:
    world = usual_world(tmp_path, machines=3)
    world.cloud.exact = exact
    world.push("shop", USUAL)
    world.advance(300)
    world.cloud.bad_machines = {"m1": "the disk is read-only"}
    for branch in ("one", "two", "three"):
        world.push("shop", USUAL, branch=branch)
        world.advance(300)
    states = {one.name: one.state for one in world.inventories.view("cloud").inventory.machines}
    assert (states["m1"] is MachineState.QUARANTINED) is exact
    assert {states["m2"], states["m3"]} == {MachineState.IN_SERVICE}


def grows(world: World) -> Environment:
    """An environment in `rack-a` is to have a further node, which would be there, too, and is not made there."""
    world.cloud.exact = False
    web = {"prefer": {"zone": "rack-a"}}
    blueprint = {**PLAIN, "environment": {"image": "debian-12", "roles": {"web": web}}}
    environment = made(world, replace(INLINE, blueprint=json.dumps(blueprint)))
    assert {node.zone for node in environment.nodes} == {"rack-a"}
    world.cloud.bad_machines = dict.fromkeys(FULL, NO_ROOM)
    world.scale.scale(environment.id, "web", 2, Asking(BY_HAND, "the fair"))
    return environment


def test_further_nodes_leave_a_zone_that_has_no_room(tmp_path: Path) -> None:
    world = filled(tmp_path)
    in_two_zones(world)
    environment = grows(world)
    world.advance(30)
    after = now(world, environment)
    assert [(node.zone, node.state) for node in after.nodes] == [
        ("rack-a", NodeState.IN_SERVICE),
        ("rack-b", NodeState.IN_SERVICE),
    ]
    assert (after.scaling, after.degraded, after.avoid) == (None, "", ())


def test_further_nodes_that_find_no_room_anywhere_say_what_failed_first(tmp_path: Path) -> None:
    world = filled(tmp_path)
    in_two_zones(world)
    world.inventories.set_state("cloud", "b1", MachineState.DRAINING, Asking(BY_HAND, "a new disk"))
    environment = grows(world)
    world.advance(30)
    waiting = now(world, environment).scaling
    assert waiting is not None
    assert waiting.reason.startswith(f"waits for room: node web-1: {NO_ROOM}; ")
    world.advance(120)
    after = now(world, environment)
    assert f"not ready after 120 s: waits for room: node web-1: {NO_ROOM}; " in after.degraded
    assert (after.scaling, after.nodes) == (None, environment.nodes)


def test_further_nodes_that_fail_wherever_they_are_have_as_many_places_as_any(tmp_path: Path) -> None:
    world = filled(tmp_path)
    in_two_zones(world)
    world.cloud.faults = {"web-1": NO_ROOM}
    environment = grows(world)
    world.cloud.exact = True
    world.advance(100)
    after = now(world, environment)
    assert after.degraded == f"2 nodes of role web: node web-1: {NO_ROOM}; they were placed 4 times"
    assert (world.cloud.made, after.nodes) == (MORE_THAN_PLACES, environment.nodes)
