"""What forges are told about runs, in which order, and how often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.projects import ProjectChange
from pipeline.domain.runs import Run, RunState, StatusReport, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.stages.runner import save_run
from pipeline.stages.statuses import MAX_TRIES, describe, wanted, with_status_due
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

TRIGGER = Trigger(TriggerKind.PUSH, "github", "https://forge.test/shop.git", "1" * 40, slug="acme/shop", branch="main")
PENDING = Run("run-1", "shop", TRIGGER, RunState.PENDING, 0.0)


def run(state: RunState, verdict: Verdict | None = None, **changes: object) -> Run:
    return replace(PENDING, state=state, verdict=verdict, **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("one", "status"),
    [
        (run(RunState.PENDING), "pending"),
        (run(RunState.RUNNING), "pending"),
        (run(RunState.FINISHING, Verdict.PASSED), "success"),
        (run(RunState.FINISHED, Verdict.PASSED), "success"),
        (run(RunState.FINISHED, Verdict.FAILED), "failure"),
        (run(RunState.FINISHED, Verdict.ERROR), "error"),
        (run(RunState.FINISHED, Verdict.CANCELLED), "error"),
        (run(RunState.FINISHED, Verdict.SUPERSEDED), "error"),
    ],
)
def test_what_the_forge_should_show(one: Run, status: str) -> None:
    assert wanted(one) == status


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (run(RunState.RUNNING), "run-1 is running"),
        (run(RunState.FINISHED, Verdict.PASSED), "passed"),
        (run(RunState.FINISHED, Verdict.FAILED, reason="test: 2 failed\nmore"), "failed: test: 2 failed"),
        (run(RunState.FINISHED, Verdict.FAILED, reason="x" * 200), "failed: " + "x" * 131 + "…"),
        (
            run(RunState.FINISHED, Verdict.ERROR, reason="it was bad, " * 15),
            "error: " + ("it was bad, " * 11).rstrip(", ") + "…",
        ),
    ],
)
def test_one_line_says_it(one: Run, text: str) -> None:
    assert describe(one) == text
    assert len(text) <= 140


WAITS = """\
waits, position 3, about 4 min: role web: 1 of 4 nodes find a machine; each takes 2 vCPU, 4096 MiB memory
zone rack-a: 14 of 16 machines: at least 12 GiB memory short; 2 of 16 machines: quarantined
to place it: free 12 GiB memory on machine a-01"""


def test_a_run_that_waits_says_why_in_short() -> None:
    told = describe(run(RunState.RUNNING), WAITS)
    assert told == (
        "waits, position 3, about 4 min: role web: 1 of 4 nodes find a machine; "
        "zone rack-a: 14 of 16 machines: at least 12 GiB memory short"
    )
    assert len(told) <= 140
    assert describe(run(RunState.RUNNING), "waits, position 1, no estimate yet: over the quota; give back") == (
        "waits, position 1, no estimate yet: over the quota; give back"
    )


def test_a_status_is_due_when_it_changes() -> None:
    new = with_status_due(None, PENDING, 5.0)
    assert new.status == StatusReport(due_at=5.0)
    told = replace(new, status=StatusReport(sent="pending"))
    assert with_status_due(told, replace(told, state=RunState.RUNNING), 6.0).status.due_at is None
    ended = with_status_due(told, replace(told, state=RunState.FINISHED, verdict=Verdict.PASSED), 7.0)
    assert ended.status == StatusReport(sent="pending", due_at=7.0)


def test_a_repository_without_a_forge_is_told_nothing() -> None:
    plain = replace(PENDING, trigger=replace(TRIGGER, slug=""))
    assert with_status_due(None, plain, 5.0) is plain


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    save_run(world.tools, None, replace(PENDING, created_at=world.clock.now()))
    return world


def save(world: World, **changes: object) -> None:
    loaded = world.books.runs.get("run-1")
    save_run(world.tools, loaded, replace(loaded.value, **changes))  # type: ignore[arg-type]  # fields by name


def told(world: World) -> list[str]:
    return [status.state.value for status in world.forge.reported]


def test_a_status_is_told_once(world: World) -> None:
    world.work.report_status("run-1")
    world.work.report_status("run-1")
    assert told(world) == ["pending"]
    (status,) = world.forge.reported
    assert (status.slug, status.sha, status.context) == ("acme/shop", "1" * 40, "greenroom")
    assert status.url == "http://greenroom.test/v1/runs/run-1"


def test_a_verdict_that_comes_while_the_forge_is_asked_is_told_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = world.forge.report

    def slowly(*arguments: object) -> None:
        monkeypatch.setattr(world.forge, "report", report)
        save(world, state=RunState.FINISHED, verdict=Verdict.PASSED)
        world.work.report_status("run-1")  # another worker is quicker
        report(*arguments)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(world.forge, "report", slowly)
    world.work.report_status("run-1")
    assert told(world) == ["success", "pending"]
    assert world.books.runs.get("run-1").value.status.due_at is not None
    world.work.report_status("run-1")
    assert told(world)[-1] == "success"


def test_a_forge_that_never_answers_is_given_up_at_last(world: World) -> None:
    world.forge.refusals = [TransientError("away")] * MAX_TRIES
    for tries in range(1, MAX_TRIES):
        world.work.report_status("run-1")
        status = world.books.runs.get("run-1").value.status
        assert (status.tries, status.fault) == (tries, "away")
        assert status.due_at is not None
    world.work.report_status("run-1")
    status = world.books.runs.get("run-1").value.status
    assert (status.due_at, status.tries, status.fault) == (None, MAX_TRIES, "away")
    assert told(world) == []


def test_a_forge_that_refuses_is_asked_once(world: World) -> None:
    world.forge.refusals = [PermanentError("bad token")]
    world.work.report_status("run-1")
    world.work.report_status("run-1")
    assert told(world) == []
    assert world.books.runs.get("run-1").value.status.fault == "bad token"


def test_a_project_without_a_token_tells_nothing(world: World) -> None:
    loaded = world.books.projects.get("shop")
    bare = replace(loaded.value, sealed_forge_token="")
    world.books.commit(world.books.projects.kind.put("shop", bare, loaded.version))
    world.work.report_status("run-1")
    assert told(world) == []
    assert world.books.runs.get("run-1").value.status.due_at is None


#: A role that takes half of the world's room.
HALF = {**USUAL, "deploy": [], "environment": {"image": "debian-12", "roles": {"web": {"count": 2}}}}


@pytest.fixture
def full(tmp_path: Path) -> World:
    """One run holds all room there is, and another one waits."""
    world = World(str(tmp_path), max_nodes=3)
    world.project("shop")
    world.program("./check", lambda _: 1)
    for branch, hold in (("main", "1h"), ("other", "0s")):
        world.push("shop", {**HALF, "destroy": {"on_failure": {"hold": hold}}}, branch=branch)
        world.settle()
    return world


def of_the_waiting(world: World) -> list[str]:
    sha = world.all_runs()[1].trigger.sha
    return [one.description for one in world.forge.reported if one.sha == sha]


def test_a_run_that_waits_for_room_is_told_once(full: World) -> None:
    assert len(of_the_waiting(full)) == 1
    full.advance(9)
    assert len(of_the_waiting(full)) == 1, "what does not wait for long is not worth a call"
    full.advance(60)
    (_, waits) = of_the_waiting(full)
    assert waits == "waits, position 1, no estimate yet: 2 nodes are wanted, 1 of 3 are free at cloud"
    full.control.release(full.all_runs()[0].id)
    full.advance(5)
    assert of_the_waiting(full)[2] == f"{full.all_runs()[1].id} is running"
    assert of_the_waiting(full)[3] == "failed: test: web-0: exit status 1; web-1: exit status 1"
    assert len(of_the_waiting(full)) == 4


def test_another_kind_of_hindrance_is_told(full: World) -> None:
    full.advance(30)
    full.projects.change("shop", ProjectChange({"nodes": 3}))
    full.advance(30)
    waits = of_the_waiting(full)[-1]
    assert waits.startswith("waits, position 1, no estimate yet: over the project's own quota of nodes: 2 are wanted")
    assert len(waits) <= 140
    assert waits.endswith("…")
    assert len(of_the_waiting(full)) == 3
