"""A provider that keeps to zones and does not choose machines: what failed in one zone goes to another."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.runs import Verdict
from tests.scenarios.player import USUAL, usual_world

NO_ROOM = "No valid host was found."
#: More machines than there are tries.
FULL = tuple(f"a{number}" for number in range(1, 7))


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
