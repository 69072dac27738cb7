"""`greenroom servers` and `greenroom providers sync`: what a person and a program read."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli.commands import providers
from pipeline.cli.output import Complaint

ALERT = {"drift": "missing", "text": "its server is gone", "action": "greenroom destroy env-1"}
SERVER = {
    "address": "10.0.0.5", "hostname": "web-0", "role": "web", "service": "shop", "hardware": ["m1.tiny", "gold"],
    "zone": "a", "state": "active", "seen_at": 0.0, "alerts": [ALERT],
}  # fmt: skip
SURVEY = {"at": 5.0, "tried_at": 5.0, "fault": "", "servers": 2, "alerts": 1, "tells_machines": True}
DIFF = {"added": ["m1"], "changed": [], "gone": [], "others": [], "unchanged": 0}


class Api:
    """Answers what it was told of, and refuses all else."""

    def __init__(self, survey: dict[str, Any], servers: list[dict[str, Any]] | None = None) -> None:
        self._survey = survey
        self._servers = servers or []
        self.synced: list[dict[str, bool]] = []

    def get(self, path: str, **params: str) -> Any:
        if path == "/v1/servers":
            return self._servers
        assert path == "/v1/providers/lab"
        return {"name": "lab", "survey": self._survey}

    def post(self, path: str, body: dict[str, bool] | None = None) -> Any:
        if path == "/v1/providers/lab/survey":
            return {"name": "lab", "survey": None}
        assert path == "/v1/providers/lab/sync"
        self.synced.append(body or {})
        return DIFF


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def use(api: Api, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr("pipeline.cli.client.connect", lambda: api)
    return api


def test_servers_are_a_table_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(Api(SURVEY, [SERVER]), monkeypatch)
    providers.servers()
    told = capsys.readouterr().out
    for word in ("10.0.0.5", "web-0", "m1.tiny, gold", "missing: its server is gone", "next: greenroom destroy env-1"):
        assert word in told
    providers.servers(json=True)
    assert json.loads(capsys.readouterr().out) == [SERVER]


def test_without_servers_it_says_how_to_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(Api(SURVEY), monkeypatch)
    providers.servers()
    assert "`greenroom providers sync` looks now" in capsys.readouterr().out


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_sync_looks_and_then_takes_the_machines_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dry_run: bool
) -> None:
    api = use(Api(SURVEY), monkeypatch)
    providers.sync("lab", dry_run=dry_run)
    assert api.synced == [{"dry_run": dry_run}]
    assert "2 servers, 1 with an alert" in capsys.readouterr().out


def test_a_look_that_failed_is_told_and_takes_nothing_over(monkeypatch: pytest.MonkeyPatch) -> None:
    api = use(Api({**SURVEY, "fault": "nobody answers"}), monkeypatch)
    with pytest.raises(Complaint, match="lab could not be looked at: nobody answers"):
        providers.sync("lab")
    assert api.synced == []
