"""`greenroom project`: what is asked of the API, and what a person reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from pipeline.cli import client as module
from pipeline.cli.client import Client
from pipeline.cli.main import app
from pipeline.cli.output import Complaint

SHOP: dict[str, Any] = {
    "name": "shop", "repository": "/srv/shop.git", "provider": "lab", "api_url": "", "reports_status": False,
    "created_at": 0.0, "max_runs": 20, "active_runs": 1, "weight": 2.0, "key_forges": ["https://github.com"],
    "quota": {
        "nodes": {"limit": 20, "used": 3}, "vcpu": {"limit": None, "used": 1.5},
        "memory_mib": {"limit": 65536.0, "used": 1536.0}, "disk_gib": {"limit": None, "used": 15.0},
        "environments": {"limit": None, "used": 1}, "floating_addresses": {"limit": None, "used": 0},
    },
    "rules": [
        {"name": "r", "match": {"role": ["web"]}, "require": {"zone": ["a", "b"]}, "prefer": {}, "forbid": {},
         "apart_from": ["payroll"], "max_per_zone": 2},
    ],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, Any]]:
    """Method, path and body of each call; every one is answered by `SHOP`, rules by their own."""
    calls: list[tuple[str, str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append((request.method, request.url.raw_path.decode(), json.loads(request.content or b"null")))
        if request.url.path.endswith("/rules"):
            return httpx.Response(200, json={"rules": SHOP["rules"], "warnings": ["rule r: there is no zone b"]})
        return httpx.Response(200, json=[SHOP] if request.url.path.endswith("/projects") else SHOP)

    client = Client("http://service", "secret", httpx.MockTransport(answer))
    monkeypatch.setattr(module, "connect", lambda: client)
    return calls


def project(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["project", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_limits_are_sent_as_they_are_written(asked: list[tuple[str, str, Any]]) -> None:
    project("set", "shop", "--quota", "nodes=20", "--quota", "memory=64GiB", "--max-runs", "5", "--weight", "2")
    project("set", "shop", "--quota", "none")
    project("set", "shop", "--provider", "")
    assert asked == [
        ("PATCH", "/v1/projects/shop", {"quota": {"nodes": "20", "memory": "64GiB"}, "max_runs": 5, "weight": 2.0}),
        ("PATCH", "/v1/projects/shop", {"quota": None}),
        ("PATCH", "/v1/projects/shop", {"provider": ""}),
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "nothing is to change"),
        (["--quota", "nodes"], "--quota nodes: expected LIMIT=AMOUNT"),
        (["--quota", "=3"], "expected LIMIT=AMOUNT"),
        (["--quota", "none", "--quota", "nodes=3"], "--quota none: expected"),
    ],
)
def test_a_change_that_cannot_be_meant_is_refused(
    asked: list[tuple[str, str, Any]], arguments: list[str], told: str
) -> None:
    with pytest.raises(Complaint, match=told):
        project("set", "shop", *arguments)
    assert asked == []


def test_a_person_reads_what_is_in_use_and_the_limits(asked: list[tuple[str, str, Any]]) -> None:
    said = project("show", "shop")
    lines = [line.split() for line in said.splitlines()]
    assert ["nodes", "3", "20"] in lines
    assert ["memory", "1.5", "GiB", "64", "GiB"] in lines
    assert ["disk", "15", "GiB", "none"] in lines
    assert ["runs", "1", "20"] in lines
    assert "require zone a or b; apart from payroll; at most 2 in a zone" in said
    assert "3 of 20" in project("ls")
    assert json.loads(project("show", "shop", "--json")) == SHOP
    assert json.loads(project("ls", "--json")) == [SHOP]


def test_rules_are_sent_whole_and_warnings_are_told(asked: list[tuple[str, str, Any]], tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    file.write_text("version: 1\nrules: []\n")
    done = CliRunner().invoke(app, ["project", "rules", "shop", str(file), "--json"])
    assert asked == [("PUT", "/v1/projects/shop/rules", {"rules": "version: 1\nrules: []\n"})]
    assert json.loads(done.stdout)["rules"] == SHOP["rules"]
    assert "warning: rule r: there is no zone b" in done.stderr
    assert "web" in project("rules", "shop")
    assert asked[-1] == ("GET", "/v1/projects/shop/rules", None)


def test_a_removal_says_what_it_did(asked: list[tuple[str, str, Any]]) -> None:
    assert "could be removed; nothing was changed" in project("rm", "shop", "--dry-run")
    assert "project shop is removed" in project("rm", "shop")
    assert [path for _, path, _ in asked] == ["/v1/projects/shop?dry_run=1", "/v1/projects/shop?dry_run=0"]
