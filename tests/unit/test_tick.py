"""The tick: nothing is forgotten, nothing is asked for twice, and only the leader writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.errors import Fenced
from pipeline.domain.failsafe import MAX_LOST
from pipeline.domain.intake import TriggerState
from pipeline.domain.runs import RunState, Verdict
from pipeline.envs import jobs
from pipeline.stages.planner import PLANNING_S
from pipeline.stages.statuses import REPORTING_S
from tests.scenarios.player import USUAL
from tests.scenarios.world import WorkerKilled, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    return world


def waiting(world: World, part: str) -> list[str]:
    return [job.id for job in world.queue.jobs if part in job.id]


def steps(world: World, seconds: float) -> None:
    """Let the tick work for so long, and no worker at all."""
    end = world.clock.now() + seconds
    while world.clock.now() < end:
        world.tick.step(world.fence)
        world.clock.sleep(0.5)
    world.tick.step(world.fence)


def test_a_plan_that_was_lost_is_asked_for_again(world: World) -> None:
    trigger = world.push("shop", USUAL)
    steps(world, 0)
    assert waiting(world, "_plan_") == [f"{trigger}_plan_0"]
    world.queue.jobs.clear()
    steps(world, 3)
    assert waiting(world, "_plan_") == []
    steps(world, 4)
    assert waiting(world, "_plan_") == [f"{trigger}_plan_0"]


def test_a_plan_that_takes_long_occupies_one_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = world.push("shop", USUAL)
    steps(world, 0)
    asked = []

    def slow(url: str, *_: object, **__: object) -> bytes:
        world.queue.jobs.clear()
        steps(world, PLANNING_S - 2)
        asked.extend(waiting(world, "_plan_"))
        return b""

    monkeypatch.setattr(world.repositories, "read", slow)
    world.work.plan_trigger(trigger)
    assert asked == []


def test_a_status_that_takes_long_occupies_one_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("shop", None)
    world.settle()
    (run,) = world.all_runs()
    loaded = world.books.runs.get(run.id)
    due = replace(loaded.value, status=replace(loaded.value.status, due_at=world.clock.now()))
    world.books.commit(world.books.runs.kind.put(run.id, due, loaded.version))
    asked = []

    def slow(*_: object) -> None:
        steps(world, REPORTING_S - 2)
        asked.extend(waiting(world, "_status_"))

    monkeypatch.setattr(world.forge, "report", slow)
    world.work.report_status(run.id)
    assert asked == []


def test_an_attempt_whose_job_was_lost_is_asked_for_again(world: World) -> None:
    world.push("shop", USUAL)
    steps(world, 0)
    world._do_jobs()
    steps(world, 0)
    world.tick.step(world.fence)
    (run,) = world.all_runs()
    wanted = [f"{run.id}_deliver_1"]
    assert waiting(world, "_deliver_") == wanted
    world.queue.jobs.clear()
    steps(world, 1)
    assert waiting(world, "_deliver_") == []
    steps(world, 4)
    assert waiting(world, "_deliver_") == wanted


def test_a_tick_that_lost_its_office_admits_nothing(world: World) -> None:
    world.push("shop", USUAL)
    steps(world, 0)
    world._do_jobs()
    old = world.fence
    world.store.release(old, "world")
    assert world.store.acquire("tick", "another", 60) is not None
    with pytest.raises(Fenced):
        world.tick.step(old)
    (run,) = world.all_runs()
    assert run.state is RunState.PENDING
    assert list(world.store.peek(10)) != []


def test_jobs_are_handed_over_in_their_order(world: World) -> None:
    triggers = [world.push("shop", USUAL, branch=f"b{number}") for number in range(5)]
    steps(world, 0)
    assert waiting(world, "_plan_") == [f"{trigger}_plan_0" for trigger in triggers]
    assert list(world.store.peek(10)) == []


def test_more_than_one_batch_is_handed_over(world: World) -> None:
    world.books.commit(jobs=[jobs.plan(f"trg-{number}", 0) for number in range(450)])
    for _ in range(3):
        world.tick.step(world.fence)
    assert len(waiting(world, "_plan_")) == 450


def test_the_provider_is_asked_only_while_something_moves(world: World) -> None:
    world.cloud.slow = True
    steps(world, 10)
    assert waiting(world, "_poll") == []
    world.push("shop", USUAL)
    world.settle()
    steps(world, 2)
    assert waiting(world, "_poll") == ["cloud_poll"]


def test_a_trigger_that_kills_its_workers_ends_in_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = world.push("shop", USUAL)

    def dies(*_: object, **__: object) -> bytes:
        raise WorkerKilled

    monkeypatch.setattr(world.repositories, "read", dies)
    world.advance((MAX_LOST + 2) * (PLANNING_S + 2))
    record = world.books.triggers.get(trigger).value
    assert (record.state, record.handed) == (TriggerState.PLANNED, MAX_LOST + 1)
    (run,) = world.all_runs()
    assert (run.verdict, run.reason) == (Verdict.ERROR, f"planning lost its worker {MAX_LOST} times; see its log")
