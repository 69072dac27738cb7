"""What is old is forgotten with everything that belongs to it, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.errors import NotFound
from tests.scenarios.player import USUAL
from tests.scenarios.world import KEEP_DAYS, World

DAY_S = 86_400
JUNIT = '<testsuite><testcase classname="a" name="b"/></testsuite>'
HELD = {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    world.program(r"\./migrate", lambda _: 0)
    return world


def push(world: World, blueprint: object = USUAL) -> str:
    world.push("shop", blueprint)
    world.settle()
    return world.all_runs()[-1].id


def indexed(world: World) -> set[str]:
    """All index sets in which anything stands."""
    return {name for name, ids in world.store._indexes.items() if ids}


def test_an_old_run_is_forgotten_with_all_that_belongs_to_it(world: World) -> None:
    def report(call: object) -> int:
        (environment,) = world.all_environments()
        world.transport.files[environment.id, "web-0", "/srv/shop/current/report.xml"] = JUNIT.encode()
        return 0

    world.program(r"\./check", report)
    run_id = push(world, {**USUAL, "test": [{"run": "./check", "junit": "report.xml"}]})
    (environment,) = world.all_environments()
    assert world.store.index(f"reports:{run_id}")
    world.clock.sleep((KEEP_DAYS + 1) * DAY_S)
    world.work.forget_old()
    assert (world.all_runs(), world.all_environments()) == ([], [])
    assert world.logs.logs(run_id) == world.logs.artifacts(run_id) == ()
    assert world.store.events(run_id) == world.store.events(environment.id) == []
    assert indexed(world) == {"projects"}
    with pytest.raises(NotFound):
        world.books.runs.get(run_id)


def test_what_is_young_is_kept(world: World) -> None:
    world.program(r"\./check", lambda _: 0)
    run_id = push(world)
    world.clock.sleep((KEEP_DAYS - 1) * DAY_S)
    world.work.forget_old()
    assert world.books.runs.get(run_id).value.id == run_id
    assert len(world.all_environments()) == 1
    assert world.store.events(run_id)


def test_a_run_whose_nodes_stand_is_kept(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.program(r"\./check", lambda _: 1)
    run_id = push(world, HELD)
    world.clock.sleep((KEEP_DAYS + 1) * DAY_S)
    world.work.forget_old()
    assert world.books.runs.get(run_id).value.id == run_id
    assert f"{run_id} is kept until the next time: environment" in caplog.text
    world.advance(5)
    world.work.forget_old()
    assert world.all_runs() == []


def test_the_tick_asks_for_it_now_and_then(world: World) -> None:
    world.settle()
    forgotten = []
    world.work.retention.forget_old = lambda: forgotten.append(world.clock.now())  # type: ignore[method-assign]  # counted
    for _ in range(10):
        world.clock.sleep(1000)
        world.settle()
    assert len(forgotten) == 2
