"""Warm pools over the API and a real Redis, without workers: kept, shown, refused, removed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.bootstrap import Application
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.scenarios.test_requests import PLAIN
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
WISH: dict[str, Any] = {"project": "shop", "template": "pair", "ready": 2, "max": 5, "max_age": "1h"}


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.projects.add("shop")
    app.templates.keep("pair", json.dumps(PLAIN))
    yield app
    app.redis.close()


async def test_a_pool_is_kept_shown_and_removed(client: httpx.AsyncClient) -> None:
    made = (await client.put("/v1/pools/pairs", json=WISH)).json()
    assert (made["wanted"], made["max"], made["max_age_s"], made["ready"]) == (2, 5, 3600, 0)
    assert (await client.get("/v1/pools")).json() == [made]
    changed = (await client.put("/v1/pools/pairs", json={"project": "shop", "template": "pair", "ready": 1})).json()
    assert (changed["wanted"], changed["max"], changed["max_age_s"]) == (1, 2, 8 * 3600)
    assert changed["created_at"] == made["created_at"]
    assert 'greenroom_pool{pool="pairs",state="wanted"} 1.0' in (await client.get("/metrics")).text
    assert (await client.delete("/v1/pools/pairs", params={"dry_run": 1})).status_code == 200
    assert (await client.get("/v1/pools/pairs")).status_code == 200
    await client.delete("/v1/pools/pairs")
    check_problem(
        await client.get("/v1/pools/pairs"), 404, "not-found", "there is no warm pool 'pairs'; there are: none"
    )


@pytest.mark.parametrize(
    ("name", "changes", "status", "part"),
    [
        ("pairs", {"template": "pear"}, 404, "there is no template 'pear'; there are: pair"),
        ("pairs", {"project": "shopp"}, 404, "there is no project shopp"),
        ("Pairs", {}, 400, "name 'Pairs': use 1 to 40"),
        ("pairs", {"max": 1}, 400, "max: 1; say at least what is kept ready (2)"),
        ("pairs", {"max_age": "5s"}, 400, "max_age: 5s; say at least 1m"),
        ("pairs", {"max_age": "soon"}, 400, "max_age: expected a duration"),
        ("pairs", {"ready": -1}, 422, "ready"),
        ("pairs", {"redy": 1}, 422, "redy"),
    ],
)
async def test_bad_wishes(client: httpx.AsyncClient, name: str, changes: Any, status: int, part: str) -> None:
    answer = await client.put(f"/v1/pools/{name}", json={**WISH, **changes})
    assert answer.status_code == status, answer.text
    assert part in answer.json()["detail"]


async def test_where_none_is_ready_one_is_built(client: httpx.AsyncClient) -> None:
    await client.put("/v1/pools/pairs", json=WISH)
    answer = await client.post("/v1/environments", json={"project": "shop", "template": "pair"})
    assert (answer.status_code, answer.json()["contract"]["pool"]) == (202, "pairs")
    assert (await client.get("/v1/pools/pairs")).json()["misses"] == 1


async def test_an_unknown_template_names_those_that_there_are(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/environments", json={"project": "shop", "template": "pear"})
    check_problem(answer, 404, "not-found", "there are: pair")
