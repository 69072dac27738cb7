"""No room where nobody is at fault: a zone that has none is left, a quota that has none is waited for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.runs import Verdict
from tests.scenarios.player import USUAL, usual_world

NO_ROOM = "No valid host was found."
#: More machines than there are tries.
FULL = tuple(f"a{number}" for number in range(1, 7))
#: An environment is placed four times at most.
MORE_THAN_PLACES = 5


@pytest.mark.parametrize(("exact", "verdict", "builds"), [(False, Verdict.PASSED, 2), (True, Verdict.ERROR, 4)])
def test_a_zone_that_has_no_room_is_left_at_once(tmp_path: Path, *, exact: bool, verdict: Verdict, builds: int) -> None:
    world = usual_world(tmp_path)
    machines = (*(Machine(name, "rack-a", {"vcpu": 8.0}) for name in FULL), Machine("b1", "rack-b", {"vcpu": 8.0}))
    world.inventories.sync("cloud", Inventory(machines, (Zone("rack-a"), Zone("rack-b"))))
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
