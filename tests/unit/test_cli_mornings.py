"""`greenroom report`: which of its forms is asked for, and that it comes through as it is."""

from __future__ import annotations

import json

import httpx
import pytest
from typer.testing import CliRunner

from pipeline.cli import client as module
from pipeline.cli.client import Client
from pipeline.cli.main import app
from pipeline.cli.output import USAGE, Complaint

Calls = list[tuple[str, str]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Path and accepted type of each call."""
    calls: Calls = []

    def answer(request: httpx.Request) -> httpx.Response:
        accept = request.headers["accept"]
        calls.append((request.url.raw_path.decode(), accept))
        return httpx.Response(200, json={"services": []}) if accept == "*/*" else httpx.Response(200, text=accept)

    client = Client("http://service", "secret", httpx.MockTransport(answer))
    monkeypatch.setattr(module, "connect", lambda: client)
    return calls


def report(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["report", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_text_is_what_a_person_gets(asked: Calls) -> None:
    assert report() == report("--text") == "text/plain"
    assert report("--html", "--service", "shop", "--since", "7d") == "text/html"
    assert [path for path, _ in asked] == [
        "/v1/reports/morning?since=24h",
        "/v1/reports/morning?since=24h",
        "/v1/reports/morning?since=7d&service=shop",
    ]


def test_a_program_gets_json(asked: Calls) -> None:
    assert json.loads(report("--json")) == {"services": []}
    assert asked == [("/v1/reports/morning?since=24h", "*/*")]


def test_two_forms_at_once_cannot_be_meant(asked: Calls) -> None:
    with pytest.raises(Complaint, match="one of --text") as refused:
        report("--text", "--json")
    assert (refused.value.status, asked) == (USAGE, [])
