"""Stagings over the API with a real Redis, without workers and without a running router."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.api.app import create
from pipeline.bootstrap import Application
from pipeline.domain.stagings import Slot, SlotName, SlotState
from pipeline.envs.books import STAGINGS
from tests.plugins.api import opened
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
FRONT = {"project": "shop", "role": "web", "port": 8080}


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    settings = memory_settings(tmp_path, redis_server.url).model_copy(update={"base_domain": "test.example"})
    app = Application(settings)
    app.projects.add("shop", repository="https://forge.test/shop.git")
    yield app
    app.redis.close()


def _live(app: Application) -> None:
    """As after a promotion of v1."""
    loaded = app.books.stagings.get("front")
    slot = Slot(SlotState.PASSED, "env-1", 1, "v1", "1" * 40, passed_at=1.0)
    app.books.commit(STAGINGS.put("front", replace(loaded.value, live=SlotName.BLUE, blue=slot), loaded.version))


def _problem(answer: Any, status: int, *words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    for word in words:
        assert word in answer.json()["detail"]


async def test_a_staging_is_made_changed_shown_and_listed(client: httpx.AsyncClient) -> None:
    made = await client.put(
        "/v1/stagings/front", json={**FRONT, "keep": "2h", "checks": [{"run": "./smoke", "role": "web"}]}
    )
    assert made.status_code == 200
    body = made.json()
    assert (body["activity"], body["live"], body["idle"], body["blue"]["state"]) == ("idle", None, "blue", "empty")
    assert (body["spec"]["domain"], body["spec"]["keep_s"]) == ("front.test.example", 7200)
    assert (await client.put("/v1/stagings/front", json={**FRONT, "keep": "0s"})).json()["spec"]["keep_s"] == 0
    assert [one["name"] for one in (await client.get("/v1/stagings", params={"project": "shop"})).json()] == ["front"]
    assert (await client.get("/v1/stagings/front")).json()["links"]["history"] == "/v1/stagings/front/history"
    assert (await client.get("/v1/stagings/front/history")).json() == []


async def test_what_cannot_be_is_told_with_what_to_do(client: httpx.AsyncClient, app: Application) -> None:
    await client.put("/v1/stagings/front", json=FRONT)
    app.projects.add("other", repository="https://forge.test/other.git")
    _problem(
        await client.put("/v1/stagings/front", json={**FRONT, "project": "other"}), 409, "front", "shop", "another name"
    )
    taken = {**FRONT, "domain": "front.test.example"}
    _problem(await client.put("/v1/stagings/back", json=taken), 409, "front.test.example", "staging front")
    _problem(await client.put("/v1/stagings/back", json={**FRONT, "watch": "soon"}), 400, "watch", "30m")
    _problem(await client.post("/v1/stagings/front/promote"), 409, "slot blue", "empty", "staging deploy front REF")
    _problem(await client.post("/v1/stagings/front/rollback"), 409, "front", "nothing was promoted yet")
    _problem(await client.post("/v1/stagings/front/deploy", json={"ref": "a b"}), 400, "a b")
    _problem(await client.get("/v1/stagings/nobody"), 404, "nobody", "front", "staging set")


async def test_a_live_slot_is_not_deleted_without_a_reason(client: httpx.AsyncClient, app: Application) -> None:
    await client.put("/v1/stagings/front", json=FRONT)
    _live(app)
    _problem(await client.delete("/v1/stagings/front"), 409, "slot blue is live", "drain it first")
    over = {"overrides": {"traffic": "the fair is over"}, "who": "ada"}
    assert (await client.post("/v1/stagings/front/remove", json={**over, "dry_run": True})).json()["removing"] is False
    assert (await client.post("/v1/stagings/front/remove", json=over)).json()["removing"] is True


async def test_locks_have_an_owner_and_a_reason(client: httpx.AsyncClient) -> None:
    await client.put("/v1/stagings/front", json=FRONT)
    _problem(await client.post("/v1/stagings/front/lock", json={"who": "ada"}), 400, "reason")
    locked = (await client.post("/v1/stagings/front/lock", json={"who": "ada", "reason": "the fair"})).json()
    assert (locked["lock"]["who"], locked["lock"]["reason"]) == ("ada", "the fair")
    _problem(await client.post("/v1/stagings/front/promote"), 409, "locked by ada", "the fair", "unlock")
    assert (await client.post("/v1/stagings/front/unlock")).json()["lock"] is None


async def test_without_a_base_domain_there_are_none(redis_server: RedisServer, tmp_path: Path) -> None:
    app = Application(memory_settings(tmp_path, redis_server.url))
    async for client in opened(app, create(app), authorization=f"Bearer {app.token.reveal()}"):
        _problem(await client.put("/v1/stagings/front", json=FRONT), 400, "base_domain")
    app.redis.close()
