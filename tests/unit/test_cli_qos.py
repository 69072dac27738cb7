"""`greenroom qos check`: what a person reads, what a program reads, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from pipeline.cli.commands import qos
from pipeline.cli.output import Complaint

KEPT = {"node": "web-0", "direction": "network_in", "promise": 1_000_000, "measured": 990_000.4, "ratio": 0.99}
GOOD, BAD = {**KEPT, "kept": True}, {**KEPT, "direction": "disk_read_iops", "ratio": 0.5, "kept": False}


class Api:
    """Answers what it was told of, and refuses all else."""

    def __init__(self, *found: dict[str, Any], fault: str = "", environment: str = "env-1") -> None:
        self._run = {"id": "run-1", "environment": environment}
        kept = bool(found) and not fault and all(one["kept"] for one in found)
        done = {"id": "qos-1", "finished_at": 2.0, "kept": kept, "fault": fault, "found": list(found)}
        self._checks: Iterator[dict[str, Any]] = iter([{**done, "finished_at": None, "found": []}, done])

    def get(self, path: str) -> dict[str, Any]:
        if path == "/v1/runs/run-1":
            return self._run
        assert path == "/v1/qos-checks/qos-1"
        return next(self._checks)

    def post(self, path: str) -> dict[str, Any]:
        assert path == "/v1/environments/env-1/qos-checks"
        return {"id": "qos-1"}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qos, "LOOK_S", 0.0)
    monkeypatch.setattr("pipeline.cli.targets.run_id", lambda _, target: target)
    monkeypatch.setenv("COLUMNS", "200")


def check(api: Api, monkeypatch: pytest.MonkeyPatch, target: str = "env-1", *, as_json: bool = False) -> int:
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
    with pytest.raises(typer.Exit) as ended:
        qos.check(target, json=as_json)
    return ended.value.exit_code


def test_kept_promises_are_a_table_and_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Api(GOOD), monkeypatch) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["web-0", "network_in", "1,000,000", "990,000", "99%", "kept"] in rows


def test_a_broken_promise_is_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Api(GOOD, BAD), monkeypatch, "run-1") == 1
    assert capsys.readouterr().out.split()[-1] == "broken"


def test_json_is_the_answer_of_the_api(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Api(BAD), monkeypatch, as_json=True) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["kept"], told["found"]) == (False, [BAD])


def test_a_fault_is_told_and_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Api(fault="node web-0 does not answer SSH"), monkeypatch) == 1
    assert "could not be measured: node web-0 does not answer SSH" in capsys.readouterr().out


def test_nothing_promised_is_told_and_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(Api(), monkeypatch) == 1
    assert "nothing was promised: give roles `qos` bounds in greenroom.yml" in capsys.readouterr().out


def test_a_run_without_nodes_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: Api(environment=""))
    with pytest.raises(Complaint, match="run-1 has no environment") as ended:
        qos.check("run-1")
    assert ended.value.status == 1


def test_a_check_that_nobody_finishes_is_a_complaint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qos, "MEASURE_S", 0.0)
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: Api(GOOD))
    with pytest.raises(Complaint, match="see the workers' logs"):
        qos.check("env-1")
