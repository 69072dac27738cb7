"""Processes die at every write and every call of the driver; each time the run ends with its right verdict."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.domain.runs import RunState, StageName, Verdict
from tests.scenarios.expectations import check
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

BLUEPRINT = {**USUAL, "artifacts": [{"path": "/var/log/shop"}]}
#: A run passes these places at most so often; `test_the_places_are_all_there` fails when it is more.
PLACES = {
    "worker before write": 21,
    "worker after write": 21,
    "tick before write": 2,
    "tick after write": 2,
    "tick before drop": 12,
    "before create": 1,
    "after create": 1,
    "before destroy": 1,
    "after destroy": 1,
}
KILLS = [(place, time) for place, count in PLACES.items() for time in range(1, count + 1)]
#: Long enough for everything that is to be noticed and done again.
PATIENCE_S = 60


def play(world: World, *, broken: bool = False, hold: str = "0s") -> None:
    """Push a commit whose check fails if it is `broken`, and let everything happen that will."""
    world.project("shop")
    world.program("./migrate", lambda _: 0)
    world.program("./check", lambda _: int(broken))
    blueprint = BLUEPRINT if hold == "0s" else {**BLUEPRINT, "destroy": {"on_failure": {"hold": hold}}}
    world.push("shop", blueprint)
    world.settle()
    world.advance(PATIENCE_S)


def test_the_places_are_all_there(tmp_path: Path) -> None:
    world = World(str(tmp_path))
    play(world)
    passed = Counter(place for place in world.grave.passed if not place.startswith("world"))
    assert passed.keys() == PLACES.keys()
    assert {place: count for place, count in passed.items() if count > PLACES[place]} == {}


@pytest.mark.parametrize(("place", "time"), KILLS, ids=str)
def test_the_run_passes_all_the_same(place: str, time: int, tmp_path: Path) -> None:
    world = World(str(tmp_path))
    world.grave.dig(place, time)
    play(world)
    (run,) = world.all_runs()
    assert (run.state, run.verdict) == (RunState.FINISHED, Verdict.PASSED), run.reason
    check(world, {"environments": ["destroyed"], "triggers": [{"state": "planned"}]})
    assert world.forge.reported[-1].state == "success"


@pytest.mark.parametrize(("place", "time"), KILLS[::3], ids=str)
def test_a_failing_run_fails_all_the_same(place: str, time: int, tmp_path: Path) -> None:
    world = World(str(tmp_path))
    world.grave.dig(place, time)
    play(world, broken=True)
    (run,) = world.all_runs()
    assert (run.state, run.verdict) == (RunState.FINISHED, Verdict.FAILED), run.reason
    check(world, {"environments": ["destroyed"]})
    assert world.forge.reported[-1].state == "failure"


@pytest.mark.parametrize(("place", "time"), KILLS[::2], ids=str)
def test_failed_nodes_are_held_all_the_same(place: str, time: int, tmp_path: Path) -> None:
    world = World(str(tmp_path))
    world.grave.dig(place, time)
    play(world, broken=True, hold="30m")
    (run,) = world.all_runs()
    assert (run.state, run.verdict) == (RunState.FINISHED, Verdict.FAILED), run.reason
    check(world, {"environments": ["held"], "servers": 1})
    world.advance(1850)
    check(world, {"environments": ["destroyed"], "servers": 0})


@pytest.mark.parametrize(("place", "time"), KILLS, ids=str)
def test_a_rerun_on_held_nodes_passes_all_the_same(place: str, time: int, tmp_path: Path) -> None:
    world = World(str(tmp_path))
    play(world, broken=True, hold="30m")
    world.commands.clear()
    world.program("./check", lambda _: 0)
    world.grave.dig(place, time)
    world.control.rerun(world.all_runs()[0].id, StageName.TEST)
    world.settle()
    world.advance(PATIENCE_S)
    _, again = world.all_runs()
    assert (again.state, again.verdict) == (RunState.FINISHED, Verdict.PASSED), again.reason
    check(world, {"environments": ["destroyed"], "servers": 0})


#: A run whose first node comes up broken passes these places, besides others.
AGAIN = [
    *((f"worker {when} write", time) for when in ("before", "after") for time in range(4, 20, 2)),
    *((f"{when} {act}", time) for when in ("before", "after") for act in ("create", "destroy") for time in (1, 2)),
]


@pytest.mark.parametrize(("place", "time"), AGAIN, ids=str)
def test_an_environment_is_placed_again_all_the_same(place: str, time: int, tmp_path: Path) -> None:
    world = World(str(tmp_path), machines=2)
    world.cloud.bad_machines = {"m1": "the disk is read-only"}
    world.grave.dig(place, time)
    play(world)
    (run,) = world.all_runs()
    assert (run.state, run.verdict) == (RunState.FINISHED, Verdict.PASSED), run.reason
    assert world.grave.where is None, "nobody died"
    check(world, {"environments": ["destroyed"], "machines": {"m1": "in-service", "m2": "in-service"}})
