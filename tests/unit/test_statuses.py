"""What forges are told about runs, in which order, and how often."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.runs import Run, RunState, StatusReport, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.stages.runner import save_run
from pipeline.stages.statuses import MAX_TRIES, describe, wanted, with_status_due
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
    ],
)
def test_one_line_says_it(one: Run, text: str) -> None:
    assert describe(one) == text
    assert len(text) <= 140


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
