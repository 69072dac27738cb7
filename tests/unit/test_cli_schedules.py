"""`greenroom schedule`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli.output import REFUSED, Complaint
from tests.tools.posing_api import Calls, answering, said

NIGHTLY: dict[str, Any] = {
    "id": "sch-1", "project": "shop", "repository": "/srv/shop.git", "ref": "feature/[x]", "cron": "0 2 * * *",
    "timezone": "Europe/Berlin", "overlap": "skip", "missed": "run-once", "priority": "nightly", "source": "file",
    "created_at": 0.0, "due_at": 1.0, "due": "2026-11-27T02:00:00+01:00", "last_due_at": 0.0, "last": "overlapped",
    "last_reason": "run run-7 is not finished", "last_trigger": "trg-7",
}  # fmt: skip


@pytest.fixture
def planned() -> dict[str, str]:
    return {"id": "trg-9", "state": "planned", "run": "run-9", "reason": ""}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, planned: dict[str, str]) -> Calls:
    """Method, path and body of each call."""
    answers = {
        ("GET", "/v1/projects"): [{"name": "shop", "repository": "/srv/shop.git"}],
        ("POST", "/v1/schedules"): NIGHTLY,
        ("GET", "/v1/schedules"): [NIGHTLY, {**NIGHTLY, "id": "sch-2", "last": None}],
        ("GET", "/v1/schedules/sch-1"): NIGHTLY,
        ("GET", "/v1/schedules/a%2Fb"): NIGHTLY,
        ("DELETE", "/v1/schedules/sch-1"): NIGHTLY,
        ("POST", "/v1/schedules/sch-1/run-now"): planned,
        ("GET", "/v1/triggers/trg-9"): planned,
    }
    return answering(monkeypatch, answers)


def schedule(*arguments: str) -> str:
    return said("schedule", *arguments)


def test_a_wish_is_sent_whole(asked: Calls) -> None:
    told = schedule("add", "@main", "--cron", "0 2 * * *", "--timezone", "Europe/Berlin", "--missed", "skip")
    assert asked[-1] == (
        "POST",
        "/v1/schedules",
        {
            "project": "shop", "repository": "", "ref": "main", "cron": "0 2 * * *", "timezone": "Europe/Berlin",
            "overlap": "skip", "missed": "skip", "priority": "nightly",
        },
    )  # fmt: skip
    assert "2026-11-27 02:00 +01:00" in told
    schedule("add", "https://forge.test/x.git", "--cron", "@daily", "-p", "shop", "--overlap", "allow")
    assert asked[-1][2]["repository"] == "https://forge.test/x.git"
    assert (asked[-1][2]["ref"], asked[-1][2]["overlap"]) == ("HEAD", "allow")


def test_a_person_reads_when_what_is_due_and_where_it_stands(asked: Calls) -> None:
    told = schedule("ls", "-p", "shop")
    assert asked[-1][1] == "/v1/schedules?project=shop"
    for part in ("sch-1", "feature/[x]", "0 2 * * * Europe/Berlin", "file", "overlapped", "run run-7 is not finished"):
        assert part in told
    shown = schedule("show", "sch-1")
    for part in ("/srv/shop.git @ feature/[x]", "run-once", "nightly", "trg-7"):
        assert part in shown
    schedule("show", "a/b")
    assert asked[-1][1] == "/v1/schedules/a%2Fb"


def test_a_program_reads_what_the_api_said(asked: Calls) -> None:
    assert json.loads(schedule("ls", "--json"))[0] == NIGHTLY
    for arguments in (["show", "sch-1"], ["add", "--cron", "0 2 * * *"], ["rm", "sch-1"]):
        assert json.loads(schedule(*arguments, "--json")) == NIGHTLY
    assert json.loads(schedule("run-now", "sch-1", "--json"))["run"] == "run-9"
    assert asked[-1][1] == "/v1/triggers/trg-9"


def test_a_dry_run_is_asked_for_as_one(asked: Calls) -> None:
    assert "nothing was changed" in schedule("rm", "sch-1", "--dry-run")
    assert "is removed" in schedule("rm", "sch-1", "--reason", "tired")
    assert [path for _, path, _ in asked] == [
        "/v1/schedules/sch-1?dry_run=1&reason=",
        "/v1/schedules/sch-1?dry_run=0&reason=tired",
    ]


def test_run_now_names_its_run_or_why_there_is_none(asked: Calls, planned: dict[str, str]) -> None:
    assert "run-9" in schedule("run-now", "sch-1")
    assert asked[0][:2] == ("POST", "/v1/schedules/sch-1/run-now")
    planned.update(run="", reason="project shop was removed")
    with pytest.raises(Complaint, match="nothing is run: project shop was removed") as refused:
        schedule("run-now", "sch-1")
    assert refused.value.status == REFUSED
