"""`greenroom machines accept` and `acceptances`: what they ask of the API, what they say, how they end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli.commands import acceptances
from tests.unit.test_cli_guarded import Api, a_machine, run

ASKED: dict[str, Any] = {
    "id": "acc-1", "machine": "a-1", "provider": "lab", "run": "run-1", "notes": [], "verdict": None, "reason": "",
    "asked_at": 0.0, "tests": {"passed": 0, "failed": 0, "errors": 0}, "measured": [],
}  # fmt: skip
MEASURED = {"direction": "network_in", "promise": 1000, "measured": 790.0, "ratio": 0.79, "kept": False}
FAILED = {**ASKED, "verdict": "failed", "reason": "too slow", "measured": [MEASURED]}
KNOWN = {"get /v1/machines": (a_machine("lab"),)}
PATH = "/v1/machines/lab/a-1/acceptances"


def test_it_asks_for_what_was_said_and_leaves_the_rest_to_the_api(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**KNOWN, **{f"post {PATH}": {**ASKED, "notes": ["a note"]}})
    words = ("--size", "medium", "--at-least", "0.9", "--tests", "https://forge.test/ops.git@main", "--peer", "b-1")
    assert run(monkeypatch, api, "machines", "accept", "a-1", *words) == 0
    terms = {
        "size": "medium",
        "at_least": 0.9,
        "peer": "b-1",
        "repository": "https://forge.test/ops.git",
        "ref": "main",
    }
    assert api.asked == [(PATH, {"reason": "", "overrides": {}, "dry_run": False, **terms})]
    assert "a note\nacc-1: machine a-1 is being accepted by run-1" in capsys.readouterr().out


def test_what_was_said_is_asked_for_although_it_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    api = Api(**{f"post {PATH}": ASKED})
    assert run(monkeypatch, api, "machines", "accept", "a-1", "--provider", "lab", "--at-least", "0") == 0
    assert api.asked[0][1]["at_least"] == 0  # which the API refuses


def test_a_dry_run_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = Api(**{f"post {PATH}": ASKED})
    assert run(monkeypatch, api, "machines", "accept", "a-1", "--provider", "lab", "--dry-run", "--wait") == 0
    assert capsys.readouterr().out == "machine a-1 could be accepted; nothing was changed\n"


@pytest.mark.parametrize(
    ("done", "status", "says"),
    [
        ({**ASKED, "verdict": "passed"}, 0, "passed: it is in service"),
        (FAILED, 1, "failed, and stays out of service (0 tests passed, 0 failed): too slow"),
        ({**ASKED, "verdict": "error", "reason": "no cloud"}, 1, "was not judged, and is as it was"),
    ],
)
def test_the_exit_status_is_the_verdict(
    done: dict[str, Any],
    status: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(acceptances, "LOOK_S", 0)
    answers = {f"post {PATH}": ASKED, "get /v1/acceptances/acc-1": done}
    assert run(monkeypatch, Api(**KNOWN, **answers), "machines", "accept", "a-1", "--wait") == status
    assert says in capsys.readouterr().out
    assert run(monkeypatch, Api(**KNOWN, **answers), "machines", "accept", "a-1", "--wait", "--json") == status
    assert json.loads(capsys.readouterr().out) == done


def test_the_newest_acceptance_of_a_machine_is_shown_with_what_was_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(**KNOWN, **{"get /v1/acceptances": [[FAILED, {**ASKED, "id": "acc-0", "verdict": "passed"}]]})
    assert run(monkeypatch, api, "machines", "acceptances", "a-1") == 0
    said = capsys.readouterr().out
    assert "too slow" in said
    assert "79%" in said
    assert said.index("acc-1") < said.index("acc-0")
