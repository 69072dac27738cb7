"""`greenroom cloud`: what is asked of the API, what a person reads, and the exit status."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from pipeline.cli.commands import cloud
from pipeline.cli.output import FAILED, OK, REFUSED, Complaint

SERVER = "server web-0 (id-1) of project shop"


class Api:
    """Answers what it was told of, one act after the other, and refuses all else."""

    def __init__(self, *acts: dict[str, Any]) -> None:
        self._acts = iter(acts)
        self._looks: Iterator[dict[str, Any]] = iter(())
        self.asked: list[dict[str, Any]] = []

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert path == "/v1/providers/lab/acts"
        self.asked.append(body)
        done = {"id": "act-1", "finished_at": 2.0, "outcome": "", "refused": "", "fault": "", "left": []}
        self._looks = iter([{"finished_at": None}, {**done, **next(self._acts)}])
        return {"id": "act-1"}

    def get(self, path: str) -> dict[str, Any]:
        assert path == "/v1/acts/act-1"
        return next(self._looks)


def ask(monkeypatch: pytest.MonkeyPatch, *acts: dict[str, Any]) -> Api:
    api = Api(*acts)
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
    for name in ("LOOK_S", "AGAIN_S"):
        monkeypatch.setattr(cloud, name, 0.0)
    return api


def test_a_delete_asks_for_it_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = ask(monkeypatch, {"outcome": "flavor old is deleted"})
    cloud.delete(cloud.Deletable.FLAVOR, "old", reason="unused", provider="lab", override=["in-use=it is dead"])
    [body] = api.asked
    assert (body["verb"], body["kind"], body["name"], body["reason"]) == ("delete", "flavor", "old", "unused")
    assert (body["overrides"], body["dry_run"]) == ({"in-use": "it is dead"}, False)
    assert capsys.readouterr().out.endswith("flavor old is deleted\n")


def test_what_a_guard_refuses_has_its_own_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(monkeypatch, {"refused": "in-use", "fault": "refused by guard in-use"}, {"fault": "no answer"})
    for status in (REFUSED, FAILED):
        with pytest.raises(Complaint) as caught:
            cloud.may_restart("m1", reason="new kernel", provider="lab")
        assert caught.value.status == status


def test_a_machine_is_asked_again_until_nothing_is_on_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    api = ask(monkeypatch, {"left": [SERVER]}, {"left": [SERVER]}, {"outcome": "machine m1 is out of service"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="new kernel", provider="lab", wait=60.0)
    assert (ended.value.exit_code, len(api.asked)) == (OK, 3)
    assert "out of service" in capsys.readouterr().out


def test_a_machine_that_is_not_empty_yet_is_exit_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ask(monkeypatch, {"left": [SERVER], "outcome": f"1 are on it: {SERVER}"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="new kernel", provider="lab", json=True)
    assert ended.value.exit_code == FAILED
    assert json.loads(capsys.readouterr().out)["left"] == [SERVER]


def test_a_dry_run_is_never_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    api = ask(monkeypatch, {"left": [SERVER], "outcome": "it would take no more servers"})
    with pytest.raises(typer.Exit) as ended:
        cloud.machine_out("m1", reason="a look", provider="lab", dry_run=True)
    assert (ended.value.exit_code, api.asked[0]["dry_run"]) == (OK, True)


def test_a_machine_comes_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    api = ask(monkeypatch, {"outcome": "machine m1 is in service"})
    cloud.machine_in("m1", reason="done", provider="lab")
    assert api.asked[0]["verb"] == "put-back"
    assert capsys.readouterr().out.endswith("machine m1 is in service\n")
