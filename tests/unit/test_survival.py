"""One aggregate, job or provider that is broken does not keep the others from their work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.runs import RunState, StageName, StageState, Verdict
from pipeline.envs import jobs
from pipeline.envs.books import Loaded
from pipeline.envs.gate import Asking
from pipeline.ports.drivers import NodeStatus
from pipeline.ports.stores import JobRequest, Put
from pipeline.stages import tick
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World, repository_of
from tests.tools.requests import SINGLE, requested

HELD = {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return usual_world(tmp_path)


def spoil(world: World, kind: str, id: str, field: str, indexes: dict[str, float]) -> None:
    """Make a document that nobody can read."""
    document = world.store.get(kind, id)
    assert document is not None
    world.books.commit(Put(kind, id, document.version, {**document.body, field: []}, indexes))


def test_a_run_that_cannot_be_read_does_not_stop_the_tick(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.cloud.slow = True
    world.push("shop", USUAL, branch="a")
    world.settle()
    (broken,) = world.all_runs()
    spoil(world, "run", broken.id, "state", {"runs:active": 1.0, "runs:pending": 1.0})
    world.cloud.slow = False
    world.push("shop", USUAL, branch="b")
    world.advance(10)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.PASSED
    assert f"run {broken.id} in the store cannot be read: state" in caplog.text


def test_a_chore_that_breaks_is_told_once_and_stops_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object, __: object) -> None:
        raise ValueError("a mistake of ours")

    over = Loaded(requested("env-1", SINGLE, "cloud", 0.0), 1)
    monkeypatch.setattr(world.reaper, "overdue", lambda: [(over, "its time ended")])
    monkeypatch.setattr(world.reaper, "end", broken)
    world.push("shop", USUAL)
    world.settle()
    world.advance(10)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
    assert caplog.text.count("env-1: left alone until the next round") == 1


def test_a_job_that_the_queue_refuses_does_not_keep_the_others(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    enqueue = world.queue.enqueue

    def picky(requests: Sequence[JobRequest]) -> None:
        if any(" " in request.id for request in requests):
            raise PermanentError("the queue takes no such job")
        enqueue(requests)

    monkeypatch.setattr(world.queue, "enqueue", picky)
    world.books.commit(jobs=[JobRequest("no such id", jobs.WORK_QUEUE, "run_stage")])
    world.push("shop", USUAL)
    world.settle()
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
    assert "no such id" in caplog.text


def test_an_environment_that_breaks_does_not_keep_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cloud.slow = True
    for branch in ("a", "b"):
        world.push("shop", USUAL, branch=branch)
    world.settle()
    broken = world.all_environments()[0].id
    advance = world.work.lifecycle.advance

    def picky(id: str, *more: Any) -> Any:
        if id == broken:
            raise TransientError("nothing works with this one")
        return advance(id, *more)

    monkeypatch.setattr(world.work.lifecycle, "advance", picky)
    world.cloud.finish()
    world.cloud.slow = False
    world.advance(10)
    assert [run.state for run in world.all_runs()] == [RunState.RUNNING, RunState.FINISHED]


def test_a_crowd_of_one_project_does_not_hide_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tick, "ROUND", 2)
    world.cloud.slow = True
    world.project("crowd", max_runs=1)
    for number in range(6):
        world.push("crowd", USUAL, branch=f"b{number}")
    world.push("shop", USUAL)
    world.settle()
    assert world.all_runs()[-1].state is RunState.RUNNING


def test_a_build_that_can_neither_begin_nor_be_undone_waits_until_the_runs_timeout(world: World) -> None:
    world.cloud.fail_create.extend([TransientError("no answer")] * 500)
    world.cloud.fail_destroy.extend([TransientError("no answer")] * 500)
    world.push("shop", {**USUAL, "timeout": "400s"})
    world.settle()
    world.advance(390)
    (environment,) = world.all_environments()
    assert environment.state is EnvironmentState.BUILDING
    assert "nor could it be undone yet: provider cloud: destroy calls are paused until" in environment.reason
    world.advance(20)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.ERROR
    assert "longer than its timeout of 400 s" in run.reason
    world.cloud.fail_create.clear()
    world.cloud.fail_destroy.clear()
    world.advance(400)
    assert world.cloud.nodes == {}
    assert world.all_runs()[0].state is RunState.FINISHED


def test_what_breaks_in_planning_is_a_run_in_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise ValueError("a mistake of ours")

    monkeypatch.setattr(world.repositories, "read", broken)
    world.push("shop", USUAL)
    world.settle()
    (run,) = world.all_runs()
    assert (run.verdict, run.reason) == (
        Verdict.ERROR,
        "internal error: ValueError('a mistake of ours'); see the worker's log",
    )
    assert [status.state for status in world.forge.reported] == ["error"]


def test_triggers_of_one_lane_are_not_planned_past_each_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = world.push("shop", USUAL), world.push("shop", USUAL)
    commit = world.books.commit

    def meanwhile(*writes: Any, **more: Any) -> None:
        monkeypatch.setattr(world.books, "commit", commit)
        world.work.plan_trigger(second)
        commit(*writes, **more)

    monkeypatch.setattr(world.books, "commit", meanwhile)
    world.work.plan_trigger(first)
    runs = {run.trigger_id: run for run in world.all_runs()}
    assert (runs[first].verdict, runs[second].verdict) == (Verdict.SUPERSEDED, None)
    assert runs[first].superseded_by == runs[second].id


def test_an_environment_whose_run_is_over_is_taken_back(world: World) -> None:
    world.push("shop", USUAL)
    world.settle()
    (run,), (environment,) = world.all_runs(), world.all_environments()
    loaded = world.books.environments.get(environment.id)
    left = replace(loaded.value, id="env-left", state=EnvironmentState.LEASED, ends_at=world.clock.now() + 10_000)
    world.books.commit(world.books.environments.kind.put(left.id, left, 0))
    world.advance(40)
    assert world.books.environments.get("env-left").value.reason == f"its run {run.id} is over"
    assert {one.state for one in world.all_environments()} == {"destroyed"}


def test_nodes_that_are_gone_end_a_rerun_in_error(world: World) -> None:
    world.program(r"\./check", lambda _: 1)
    world.commands.insert(0, world.commands.pop())
    world.push("shop", HELD)
    world.settle()
    (failed,) = world.all_runs()
    again = world.control.rerun(failed.id, StageName.TEST)
    world.reaper.take_back(again.environment_id, Asking("tick", "its leased time ended"))
    world.work.advance_environment(again.environment_id)
    world.settle()
    ended = world.books.runs.get(again.id).value
    assert ended.verdict is Verdict.ERROR
    assert ended.stage(StageName.TEST).state is StageState.ERROR
    assert "is destroyed: its nodes cannot be reached" in ended.reason


def test_the_token_of_the_project_is_masked_in_logs(world: World) -> None:
    project = world.books.projects.get("shop")
    named = replace(project.value, repository=repository_of("shop"))
    world.books.commit(world.books.projects.kind.put("shop", named, project.version))

    def babble(call: Any) -> int:
        call.output(b"the token is forge-token\n")
        return 0

    world.program(r"\./migrate", babble)
    world.commands.insert(0, world.commands.pop())
    world.push("shop", USUAL)
    world.settle()
    (run,) = world.all_runs()
    log = world.logs.read(run.id, "deploy-1.web-0", 0, 10_000)
    assert b"the token is ***" in log
    assert b"forge-token" not in log


def test_giving_access_away_is_told_in_the_history(world: World) -> None:
    world.program(r"\./check", lambda _: 1)
    world.commands.insert(0, world.commands.pop())
    world.push("shop", HELD)
    world.settle()
    (run,) = world.all_runs()
    access = world.control.give_access(run.id)
    told = world.store.events(run.id)[-1]
    assert (told.type, told.data) == ("access.given", {"environment": access.environment_id})


def test_the_status_of_a_held_run_says_how_to_log_in(world: World) -> None:
    world.program(r"\./check", lambda _: 1)
    world.commands.insert(0, world.commands.pop())
    world.push("shop", HELD)
    world.settle()
    (run,) = world.all_runs()
    status = world.forge.reported[-1]
    assert status.state == "failure"
    assert status.description.startswith("failed, held until 2023-11-14 ")
    assert f"(greenroom ssh {run.id})" in status.description


def test_a_leak_that_cannot_be_removed_does_not_keep_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.push("shop", USUAL)
    world.push("shop", USUAL, branch="other")
    world.settle()
    stubborn, other = (environment.id for environment in world.all_environments())
    for id in (stubborn, other):
        world.cloud.marks[id] = ("world", world.clock.now() + 10_000)
    destroy = world.provider.driver.destroy

    def picky(id: str, *more: Any) -> None:
        if id == stubborn:
            raise TransientError("no answer")
        destroy(id, *more)

    monkeypatch.setattr(world.provider.driver, "destroy", picky)
    assert world.reaper.reap("cloud") == []
    world.clock.sleep(60)
    assert world.reaper.reap("cloud") == [other]


def test_connections_that_cannot_be_ended_do_not_keep_servers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise TransientError("the socket is stuck")

    monkeypatch.setattr(world.transport, "close", broken)
    world.push("shop", USUAL)
    world.settle()
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
    assert world.cloud.nodes == {}


def test_a_listing_from_before_a_build_does_not_judge_it(tmp_path: Path) -> None:
    world = usual_world(tmp_path, machines=2)
    world.cloud.slow = True
    world.push("shop", USUAL)
    world.settle()
    (environment,) = world.all_environments()
    view = next(iter(world.cloud.nodes.values()))
    stale = (replace(view, status=NodeStatus.ERROR, fault="of the build before"),)
    seen = world.work.lifecycle.advance(environment.id, stale, environment.state_since - 1.0)
    assert (seen.state, seen.placed_again) == (EnvironmentState.BUILDING, 0)
    world.clock.sleep(1)
    again = world.work.lifecycle.advance(environment.id, stale, environment.state_since)
    assert (again.state, again.placed_again) == (EnvironmentState.REQUESTED, 1)
    world.cloud.slow = False
    world.settle()
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
