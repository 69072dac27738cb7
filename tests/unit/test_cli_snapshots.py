"""`greenroom snapshot`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.tools.posing_api import Calls, answering, said

SEEDED: dict[str, Any] = {
    "name": "seeded", "project": "shop", "environment": "env-1", "node": "db-0", "state": "ready",
    "image": "snapshot/seeded", "size": 52428800, "taken_at": 0.0, "id": "image-1",
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Method, path and body of each call."""
    answers = {
        ("GET", "/v1/environments/env-1"): {"id": "env-1"},
        ("POST", "/v1/environments/env-1/snapshot"): {**SEEDED, "state": "saving", "size": 0},
        ("GET", "/v1/providers/cloud/snapshots"): [SEEDED],
        ("POST", "/v1/providers/cloud/snapshots/seeded/remove"): SEEDED,
    }
    return answering(monkeypatch, answers)


def snapshot(*arguments: str) -> str:
    return said("snapshot", *arguments)


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
    body = {"project": "shop", "reason": "", "overrides": {}, "dry_run": True}
    assert asked[-1] == ("POST", "/v1/providers/cloud/snapshots/seeded/remove", body)
    assert "could be removed; nothing was changed" in said
    assert "is removed" in snapshot("rm", "cloud", "seeded")


def test_rm_may_pass_a_guard_with_a_reason(asked: Calls) -> None:
    snapshot("rm", "cloud", "seeded", "--reason", "it leaks", "--override", "in-use=its server is stopped")
    overrides = {"in-use": "its server is stopped"}
    assert asked[-1][2] == {"project": "", "reason": "it leaks", "overrides": overrides, "dry_run": False}
