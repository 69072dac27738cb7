"""`greenroom snapshot`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pipeline.cli import client as module
from pipeline.cli.client import Client
from pipeline.cli.main import app

SEEDED: dict[str, Any] = {
    "name": "seeded", "project": "shop", "environment": "env-1", "node": "db-0", "state": "ready",
    "image": "snapshot/seeded", "size": 52428800, "taken_at": 0.0, "id": "image-1",
}  # fmt: skip
Calls = list[tuple[str, str, Any]]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Method, path and body of each call."""
    calls: Calls = []
    answers: dict[tuple[str, str], Any] = {
        ("GET", "/v1/environments/env-1"): {"id": "env-1"},
        ("POST", "/v1/environments/env-1/snapshot"): {**SEEDED, "state": "saving", "size": 0},
        ("GET", "/v1/providers/cloud/snapshots"): [SEEDED],
        ("DELETE", "/v1/providers/cloud/snapshots/seeded"): SEEDED,
    }

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        calls.append((request.method, path, json.loads(request.content or b"null")))
        return httpx.Response(200, json=answers[request.method, path.partition("?")[0]])

    client = Client("http://service", "secret", httpx.MockTransport(answer))
    monkeypatch.setattr(module, "connect", lambda: client)
    return calls


def snapshot(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["snapshot", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_take_says_what_a_blueprint_says_for_it(asked: Calls) -> None:
    said = snapshot("take", "env-1", "--node", "db-0", "--name", "seeded")
    assert asked[-1] == ("POST", "/v1/environments/env-1/snapshot", {"node": "db-0", "name": "seeded"})
    assert "snapshot seeded of node db-0 is saving; as an image: snapshot/seeded" in said


def test_ls_shows_size_and_origin(asked: Calls) -> None:
    said = snapshot("ls", "cloud")
    for word in ("seeded", "shop", "ready", "50 MiB", "env-1 db-0"):
        assert word in said
    assert json.loads(snapshot("ls", "cloud", "--json")) == [SEEDED]


def test_rm_may_be_tried_first(asked: Calls) -> None:
    said = snapshot("rm", "cloud", "seeded", "-p", "shop", "--dry-run")
    assert asked[-1][1].endswith("?project=shop&reason=&dry_run=1")
    assert "could be removed; nothing was changed" in said
    assert "is removed" in snapshot("rm", "cloud", "seeded")
