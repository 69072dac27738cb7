"""Acceptances over the API and a real Redis, without workers: answers, refusals, lists."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.bootstrap import Application
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.envs.gate import Asking
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
PATH = "/v1/machines/memory/new/acceptances"


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.inventories.sync("memory", Inventory((Machine("new", "a", {}), Machine("old", "a", {})), (Zone("a"),)))
    app.inventories.set_state("memory", "new", MachineState.MAINTENANCE, Asking("ada", "a new disk"))
    yield app
    app.redis.close()


async def test_it_is_asked_for_and_found_again(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={})
    asked: dict[str, Any] = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, asked["links"]["self"])
    assert (asked["size"], asked["image"], asked["qos"], asked["at_least"]) == ("small", "debian-12", "steady", 0.8)
    assert (asked["verdict"], asked["who"]) == (None, "operator")
    assert (await client.get(asked["links"]["self"])).json() == asked
    for query in ("", "?provider=memory", "?provider=memory&machine=new"):
        assert (await client.get(f"/v1/acceptances{query}")).json()["items"] == [asked]
    assert (await client.get("/v1/acceptances?provider=memory&machine=old")).json()["items"] == []
    assert (await client.get(asked["links"]["run"])).json()["state"] == "pending"
    told = (await client.get("/v1/audit")).json()[-1]
    assert (told["act"], told["target"], told["why"]) == ("accept", "machine memory/new", "before it goes into service")


@pytest.mark.parametrize(
    ("path", "body", "status", "says"),
    [
        (PATH.replace("new", "old"), {}, 409, "greenroom machine maintenance old"),
        (PATH.replace("new", "none"), {}, 404, "there is no machine none"),
        (PATH, {"size": "huge"}, 400, "there is no such size"),
        (PATH, {"at_least": 2}, 422, "at_least"),
        (PATH, {"admitted": "new"}, 422, "admitted"),
    ],
)
async def test_a_refusal_says_what_to_do(
    path: str, body: dict[str, Any], status: int, says: str, client: httpx.AsyncClient
) -> None:
    answer = await client.post(path, json=body)
    assert answer.status_code == status, answer.text
    assert says in answer.text


async def test_a_machine_is_named_with_its_provider(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/acceptances?machine=new")
    check_problem(answer, 400, "bad-request", "say of which provider")


async def test_a_dry_run_stores_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.post(PATH, json={"dry_run": True})
    assert (answer.status_code, "location" in answer.headers) == (202, False)
    assert (await client.get("/v1/acceptances")).json()["items"] == []
