"""Snapshots over the API, of a provider in memory that keeps disks: what is in use stays, unless somebody says why."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipeline.adapters.drivers.memory import MemoryCloud, MemorySnapshots
from pipeline.bootstrap import Application
from pipeline.domain.snapshots import Snapshot, SnapshotState
from pipeline.envs.snapshots import Snapshots
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
SEEDED = "/v1/providers/memory/snapshots/seeded"


@pytest.fixture
def keeper() -> MemorySnapshots:
    """Keeps a disk of project shop, of which a server was made."""
    kept = Snapshot("seeded", "shop", "env-1", "db-0", id="image-1", state=SnapshotState.READY)
    return MemorySnapshots(MemoryCloud(), kept={("shop", "seeded"): kept}, used_by={"image-1": ["server web-0 (7)"]})


@pytest.fixture
def app(
    redis_server: RedisServer, tmp_path: Path, keeper: MemorySnapshots, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    provider = replace(app.provider("memory"), snapshots=keeper)
    monkeypatch.setattr(app, "snapshots", Snapshots(app.books, lambda _: provider, app.gate, app.clock))
    yield app
    app.redis.close()


@pytest.mark.parametrize("ask", [("DELETE", SEEDED), ("POST", f"{SEEDED}/remove")])
async def test_one_that_is_in_use_stays(
    client: httpx.AsyncClient, keeper: MemorySnapshots, ask: tuple[str, str]
) -> None:
    check_problem(await client.request(*ask), 409, "guard-refused", "it is in use by server web-0 (7)")
    assert keeper.all()


async def test_whoever_says_why_passes_the_guard_and_the_audit_tells_it(
    client: httpx.AsyncClient, keeper: MemorySnapshots
) -> None:
    wish = {"project": "shop", "reason": "it leaks", "overrides": {"in-use": "its server is stopped"}}
    tried = await client.post(f"{SEEDED}/remove", json={**wish, "dry_run": True})
    assert (tried.status_code, tried.json()["name"]) == (200, "seeded")
    assert keeper.all()
    assert (await client.post(f"{SEEDED}/remove", json=wish)).status_code == 200
    assert not keeper.all()
    audit = (await client.get("/v1/audit")).json()
    assert {json.dumps(line["overridden"]) for line in audit} == {json.dumps(wish["overrides"])}


async def test_no_guard_is_misspelt_in_silence(client: httpx.AsyncClient, keeper: MemorySnapshots) -> None:
    answer = await client.post(f"{SEEDED}/remove", json={"overrides": {"inuse": "a reason"}})
    check_problem(answer, 400, "bad-request", "there is no guard inuse")
    assert keeper.all()
