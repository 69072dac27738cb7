"""What a person reads: empty lists, environments that are gone, failed test cases."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.cli import render
from pipeline.cli.output import Output

ENVIRONMENT: dict[str, Any] = {
    "id": "env-1", "project": "shop", "owner": "run-1", "provider": "local", "nodes": [], "ends_at": 1_000_000_000.0,
}  # fmt: skip
CASE = {"suite": "e2e", "classname": "shop.e2e", "name": "greets", "status": "failed", "message": "no [hello]"}
RUN: dict[str, Any] = {
    "id": "run-1", "state": "finished", "verdict": "failed", "reason": "", "project": "shop", "branch": "main",
    "sha": "a" * 40, "repository": "/srv/shop.git", "message": "", "kind": "push", "actor": "", "created_at": 0.0,
    "rerun_of": "", "superseded_by": "", "stages": [], "tests": {"passed": 0, "failed": 1, "errors": 0, "skipped": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("show", "told"),
    [
        (render.runs, "no runs yet\n"),
        (render.environments, "no environments yet\n"),
        (render.triggers, "no triggers yet\n"),
        (render.projects, "no projects yet\n"),
    ],
)
def test_an_empty_list_says_so(show: Any, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    show(Output(), [])
    assert capsys.readouterr().out == told


@pytest.mark.parametrize(("state", "until"), [("held", True), ("leased", True), ("destroyed", False)])
def test_only_what_stands_has_an_end(state: str, until: bool, capsys: pytest.CaptureFixture[str]) -> None:
    render.environments(Output(), [{**ENVIRONMENT, "state": state}])
    assert ("2001-09-0" in capsys.readouterr().out) is until


def test_a_failed_case_is_named_by_its_class(capsys: pytest.CaptureFixture[str]) -> None:
    render.run(Output(), RUN, None, [{"name": "1.test-1-1", "cases": [CASE]}])
    said = capsys.readouterr().out
    assert "failed shop.e2e: greets" in said
    assert "no [hello]" in said


@pytest.mark.parametrize(("position", "told"), [(3, True), (None, False)])
def test_a_run_that_waits_shows_why(position: int | None, told: bool, capsys: pytest.CaptureFixture[str]) -> None:
    reason = "waits, position 3, about 4 min: role web\nzone rack-a: [full]"
    rest: dict[str, object] = {"state": "requested", "fault": "", "notes": [], "notice": None}
    waiting = {**ENVIRONMENT, **rest, "reason": reason, "position": position}
    render.run(Output(), {**RUN, "state": "running", "verdict": None}, waiting, [])
    said = capsys.readouterr().out
    assert ("  waits, position 3, about 4 min: role web\n  zone rack-a: [full]\n" in said) is told


@pytest.mark.parametrize(
    ("machine", "told"),
    [
        ({"state": "in-service", "probation": False, "back_at": None}, "in-service"),
        ({"state": "in-service", "probation": True, "back_at": None}, "in-service, on probation"),
        ({"state": "quarantined", "probation": False, "back_at": None}, "quarantined"),
        ({"state": "quarantined", "probation": False, "back_at": 1e9}, f"quarantined until {render.moment(1e9)}"),
    ],
)
def test_a_machine_says_when_and_how_it_comes_back(machine: dict[str, Any], told: str) -> None:
    assert render.machine_state(machine) == told
