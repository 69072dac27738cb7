"""What `greenroom down --force` says of what it could not end."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import httpx
import pytest

from pipeline.cli import ending
from pipeline.cli.client import Client
from pipeline.cli.output import Output
from pipeline.settings import Settings

STANDING = [
    {"id": "env-1", "provider": "local", "state": "destroying", "contract": None, "owner": "run-1"},
    {"id": "env-2", "provider": "cloud", "state": "destroying", "contract": None, "owner": "run-2"},
]


class Machine:
    """Removes the nodes of one provider, whatever they do."""

    def clean_nodes(self, _why: str, _overrides: object) -> Collection[str]:
        return {"local"}


def answer(request: httpx.Request) -> httpx.Response:
    """Nothing runs, and both environments stay for ever."""
    body: Any = {"items": STANDING if request.url.path == "/v1/environments" else [], "next": None}
    return httpx.Response(200, json=body)


def test_what_is_being_taken_back_is_not_said_to_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = {"owner": "ann"}
    asked = [{**one, "contract": contract, "ends_at": 1.0} for one in STANDING]
    held = {**asked[0], "id": "env-3", "state": "leased"}
    monkeypatch.setattr("tests.unit.test_cli_ending.STANDING", [*asked, held])
    monkeypatch.setattr(ending, "connect", lambda _: Client("http://service", "secret", httpx.MockTransport(answer)))
    assert ending.settle(Output(), Settings(), release=False, force=False) == ["env-3"]
    said = capsys.readouterr().out
    assert "env-1 is not taken back yet: the next `greenroom up` goes on with it" in said
    assert [line.split()[3] for line in said.splitlines() if "stay, out of reach" in line] == ["env-3"]


def test_what_stays_at_a_provider_elsewhere_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ending, "SETTLE_S", 0.0)
    monkeypatch.setattr(ending, "connect", lambda _: Client("http://service", "secret", httpx.MockTransport(answer)))
    monkeypatch.setattr("pipeline.bootstrap.build", Machine)
    left = ending.settle(Output(), Settings(), release=True, force=True)
    assert left == ["env-1", "env-2"]
    said = capsys.readouterr().out
    assert "env-2 could not be taken back within 0 s: what it has at cloud stays there" in said
    assert "env-1" not in said
