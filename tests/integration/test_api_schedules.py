"""Schedules over the API and a real Redis, without workers: added, shown, refused, run, removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.bootstrap import Application
from pipeline.domain.blueprint import ScheduleSpec
from pipeline.domain.schedules import Source, new
from pipeline.envs.books import SCHEDULES
from pipeline.envs.gate import AUDIT
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
WISH: dict[str, Any] = {"project": "shop", "cron": "30 2 * * mon-fri", "timezone": "Europe/Berlin", "ref": "main"}


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.projects.add("shop", repository="https://forge.test/shop.git")
    app.projects.add("bare")
    yield app
    app.redis.close()


async def test_a_schedule_is_added_shown_and_removed(app: Application, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/schedules", json=WISH)
    made = answer.json()
    assert answer.status_code == 201, answer.text
    assert {key: made[key] for key in WISH} == WISH
    assert (made["source"], made["priority"], made["overlap"], made["missed"]) == ("api", "nightly", "skip", "run-once")
    assert made["due"][11:16] == "02:30"
    assert made["due_at"] > app.clock.now()
    assert (await client.get(f"/v1/schedules/{made['id']}")).json() == made
    assert (await client.get("/v1/schedules", params={"project": "shop"})).json() == [made]
    assert (await client.get("/v1/schedules", params={"project": "bare"})).json() == []
    tried = await client.delete(f"/v1/schedules/{made['id']}", params={"dry_run": 1})
    assert (tried.json(), (await client.get("/v1/schedules")).json()) == (made, [made])
    await client.delete(f"/v1/schedules/{made['id']}", params={"reason": "not needed"})
    check_problem(await client.get(f"/v1/schedules/{made['id']}"), 404, "not-found", "greenroom schedule ls")
    told = [event for event in app.store.events(AUDIT) if event.data["target"] == f"schedule {made['id']}"]
    assert told[-1].data["why"] == "not needed"


@pytest.mark.parametrize(
    ("changes", "status", "code", "part"),
    [
        ({"project": "shopp"}, 404, "not-found", "there is no project shopp"),
        ({"project": "bare"}, 400, "bad-request", "project bare has no repository of its own"),
        ({"cron": "0 25 * * *"}, 400, "bad-request", "cron '0 25 * * *': hour: expected 0-23"),
        ({"cron": "0 2 * *"}, 400, "bad-request", "expected five cron fields"),
        ({"cron": "0 2 31 2 *"}, 400, "bad-request", "never comes"),
        ({"timezone": "Europe/Berln"}, 400, "bad-request", "timezone: there is no time zone 'Europe/Berln'; did you"),
        ({"ref": "-x"}, 400, "bad-request", "reads like an option"),
        ({"repository": "ext::sh"}, 400, "bad-request", "is no repository URL"),
        ({"overlap": "maybe"}, 422, "bad-request", "overlap"),
        ({"crn": "0 2 * * *"}, 422, "bad-request", "crn"),
    ],
)
async def test_what_cannot_be_meant_is_told_by_its_field(
    client: httpx.AsyncClient, changes: dict[str, str], status: int, code: str, part: str
) -> None:
    check_problem(await client.post("/v1/schedules", json={**WISH, **changes}), status, code, part)
    assert (await client.get("/v1/schedules")).json() == []


async def test_the_same_times_are_not_added_twice(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/schedules", json=WISH)).json()
    again = await client.post("/v1/schedules", json={**WISH, "cron": "30  2 * * mon-fri"})
    check_problem(again, 409, "already-exists", f"greenroom schedule rm {made['id']}")


async def test_a_run_now_is_a_trigger_and_waits_for_the_last_one(client: httpx.AsyncClient) -> None:
    made = (await client.post("/v1/schedules", json=WISH)).json()
    answer = await client.post(f"/v1/schedules/{made['id']}/run-now")
    trigger = answer.json()
    assert (answer.status_code, trigger["state"], trigger["kind"]) == (202, "received", "schedule")
    assert (await client.get(f"/v1/schedules/{made['id']}")).json() == {**made, "last_trigger": trigger["id"]}
    check_problem(await client.post(f"/v1/schedules/{made['id']}/run-now"), 409, "invalid-transition", "not finished")
    check_problem(await client.post("/v1/schedules/sch-none/run-now"), 404, "not-found", "sch-none")


async def test_what_a_file_asks_for_is_removed_in_the_file(app: Application, client: httpx.AsyncClient) -> None:
    one = new("shop", "https://forge.test/shop.git", ScheduleSpec("0 2 * * *", "main"), Source.FILE, 1000.0)
    app.books.commit(SCHEDULES.put(one.id, one, 0))
    assert [each["source"] for each in (await client.get("/v1/schedules")).json()] == ["file"]
    check_problem(await client.delete(f"/v1/schedules/{one.id}"), 409, "invalid-transition", "greenroom.yml of")
