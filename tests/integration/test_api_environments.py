"""Environments on request over the API and a real Redis, without workers: answers, refusals, lists, events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.adapters.user_keys import HttpsUserKeys
from pipeline.bootstrap import Application
from pipeline.domain.environments import EnvironmentState, NodeState
from pipeline.domain.leases import begun
from pipeline.domain.projects import ProjectChange
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
BLUEPRINT = "version: 1\nservice: s\nenvironment: {image: debian-12, roles: {web: {count: 2}}}\ntest: []\n"
FORGE = "https://git.example"
KEY = SshKeys().ed25519("ada@laptop")[1]
WISH: dict[str, Any] = {"project": "shop", "blueprint": BLUEPRINT, "owner": "ada", "public_keys": [KEY]}


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.projects.add("shop", repository=str(tmp_path / "nowhere.git"))
    yield app
    app.redis.close()


async def asked(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/environments", json={**WISH, **changes})
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    return made


def lease(app: Application, id: str) -> None:
    """What the provider's worker writes when all nodes are in service."""
    loaded, now = app.books.environments.get(id), app.clock.now()
    leased = begun(replace(loaded.value, state=EnvironmentState.LEASED), now)
    app.books.commit(app.books.environments.kind.put(id, leased, loaded.version))


async def test_the_answer_is_at_once_with_contract_and_links(app: Application, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/environments", json={**WISH, "ttl": "1h", "why": "a bug", "name": "demo"})
    made = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (202, made["links"]["self"])
    assert answer.headers["cache-control"] == "no-store"
    assert (made["state"], made["private_key"]) == ("requested", None)
    contract = made["contract"]
    assert (contract["owner"], contract["why"], contract["name"], contract["ttl_s"]) == ("ada", "a bug", "demo", 3600)
    assert (contract["dies_at"], contract["ready_at"], contract["most_s"]) == (None, None, 86400)
    assert contract["costs"]["nodes"] == 2
    for link in ("self", "nodes", "logs"):
        assert (await client.get(made["links"][link])).status_code == 200


async def test_a_key_that_is_made_is_shown_once_and_lies_nowhere(app: Application, client: httpx.AsyncClient) -> None:
    made = await asked(client, public_keys=[])
    assert made["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
    secret = made["private_key"].splitlines()[2].encode()
    assert not [key for key in app.redis.scan_iter() if secret in (app.redis.dump(key) or b"")]
    assert "private_key" not in (await client.get(made["links"]["self"])).json()


async def test_keys_of_a_forge_s_user_come_from_where_the_project_may_take_them(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HttpsUserKeys, "of", lambda _, forge, user: KEY if (forge, user) == (FORGE, "ada") else "")
    body = {**WISH, "public_keys": [], "ssh_keys_from": "ada"}
    answer = await client.post("/v1/environments", json=body)
    check_problem(answer, 400, "bad-request")
    assert "project set shop --keys-from" in answer.json()["detail"]
    refused = await client.patch("/v1/projects/shop", json={"key_forges": ["http://git.example"]})
    check_problem(refused, 400, "bad-request")
    changed = await client.patch("/v1/projects/shop", json={"key_forges": [FORGE]})
    assert changed.json()["key_forges"] == [FORGE]
    made = (await client.post("/v1/environments", json=body)).json()
    assert made["private_key"] is None
    (key,) = app.books.environments.get(made["id"]).value.contract.keys  # type: ignore[union-attr]  # it has one
    assert key == f"{' '.join(KEY.split()[:2])} ada@git.example"
    audit = (await client.get("/v1/audit")).json()
    told = next(one for one in audit if one["target"] == made["id"])
    assert (told["act"], told["who"], told["keys"][0].startswith("SHA256:")) == ("install-keys", "ada", True)
    check_problem(await client.post("/v1/environments", json={**body, "ssh_keys_from": "eve"}), 400, "bad-request")


async def test_the_idempotency_key_names_one_request(app: Application, client: httpx.AsyncClient) -> None:
    key = {"idempotency-key": "one"}
    first = await client.post("/v1/environments", json=WISH, headers=key)
    again = await client.post("/v1/environments", json=dict(reversed(WISH.items())), headers=key)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await client.post("/v1/environments", json={**WISH, "why": "else"}, headers=key)
    check_problem(other, 422, "idempotency-key-reused", f"which made {first.json()['id']}")
    assert app.store.count("environments") == 1


@pytest.mark.parametrize(
    ("changes", "status", "type_", "part"),
    [
        ({"project": "nope"}, 404, "not-found", "there is no project nope"),
        ({"blueprint": "", "template": "nope"}, 404, "not-found", "there is no template 'nope'; there are: none yet"),
        ({"blueprint": ""}, 404, "not-found", "nowhere.git"),
        ({"ref": "-x"}, 400, "bad-request", "reads like an option"),
        ({"ttl": "2d"}, 400, "bad-request", "a time to live of 2d is wanted; project shop allows 1d"),
        ({"ttl": "soon"}, 400, "bad-request", "ttl: expected a duration such as"),
        ({"public_keys": ["ssh-rsa AAAA"]}, 400, "bad-request", "public key 1 is damaged"),
        ({"public_keys": [KEY, 'command="id" ' + KEY]}, 400, "bad-request", "public key 2 is no OpenSSH public key"),
        ({"public_keys": [KEY] * 21}, 422, "bad-request", "public_keys"),
        ({"name": "Ünfit"}, 400, "bad-request", "use 1 to 40 of a-z"),
        ({"blueprint": "version: 2\n"}, 422, "invalid-blueprint", "blueprint: line 1"),
        ({"time_to_live": "1h"}, 422, "bad-request", "time_to_live"),
        ({"owner": ""}, 422, "bad-request", "owner"),
    ],
)
async def test_bad_input_is_a_problem_that_says_what_to_do(
    app: Application, client: httpx.AsyncClient, changes: dict[str, Any], status: int, type_: str, part: str
) -> None:
    check_problem(await client.post("/v1/environments", json={**WISH, **changes}), status, type_, part)
    assert app.store.count("environments") == 0


async def test_a_taken_name_and_a_full_quota_are_conflicts(app: Application, client: httpx.AsyncClient) -> None:
    made = await asked(client, name="demo")
    check_problem(
        await client.post("/v1/environments", json={**WISH, "name": "demo"}), 409, "already-exists", made["id"]
    )
    await client.patch("/v1/projects/shop", json={"quota": {"nodes": 1}})
    check_problem(await client.post("/v1/environments", json=WISH), 409, "over-quota", "2 are wanted, 0 of 1 are in")


async def test_its_time_is_changed_and_the_maximum_told(app: Application, client: httpx.AsyncClient) -> None:
    made = await asked(client)
    own = made["links"]["self"]
    check_problem(await client.post(f"{own}/extend", json={"by": "1h"}), 409, "invalid-transition", "is requested")
    lease(app, made["id"])
    before = (await client.get(own)).json()["contract"]
    longer = (await client.post(f"{own}/extend", json={"by": "1h"})).json()["contract"]
    assert longer["dies_at"] == before["dies_at"] + 3600
    assert longer["last_end"] == before["last_end"]
    check_problem(await client.post(f"{own}/extend", json={"by": "23h"}), 400, "bad-request", "at most 21h more")
    held = (await client.post(f"{own}/hold", json={"for": "5h", "reason": "a bug"})).json()
    assert (held["state"], held["reason"]) == ("held", "a bug")
    check_problem(await client.post(f"{own}/hold", json={"for": "5h"}), 422, "bad-request", "reason")
    guarded = (await client.post(f"{own}/protect", json={"reason": "the fair"})).json()
    assert (guarded["contract"]["protected"], guarded["contract"]["dies_at"]) == ("the fair", None)
    check_problem(await client.post(f"{own}/release"), 409, "guard-refused", "it is protected: the fair")
    await client.post(f"{own}/protect", json={})
    assert (await client.delete(f"{own}?dry_run=true")).json()["state"] == "held"
    assert (await client.delete(own)).json()["state"] == "destroying"


async def test_lists_are_filtered_by_project_owner_and_state(client: httpx.AsyncClient) -> None:
    await client.post("/v1/projects", json={"name": "blog"})
    first, second = await asked(client), await asked(client, owner="eve", project="blog")
    await client.post(f"/v1/environments/{second['id']}/release")

    async def ids(query: str) -> list[str]:
        return [one["id"] for one in (await client.get(f"/v1/environments?{query}")).json()["items"]]

    assert await ids("") == [second["id"], first["id"]]
    assert await ids("owner=ada") == await ids("project=shop") == await ids("state=requested") == [first["id"]]
    assert await ids("owner=eve&state=withdrawn&state=leased") == [second["id"]]
    assert await ids("owner=eve&project=shop") == []
    assert await ids("limit=1&offset=1") == [first["id"]]
    check_problem(await client.get("/v1/environments?state=dead"), 422, "bad-request", "state")


async def test_its_events_end_when_nothing_of_it_exists(client: httpx.AsyncClient) -> None:
    made = await asked(client)
    await client.post(f"/v1/environments/{made['id']}/release")
    text = (await client.get(made["links"]["events"])).text
    events = [line.removeprefix("event: ") for line in text.splitlines() if line.startswith("event: ")]
    assert events == ["environment.requested", "environment.withdrawn"]


async def test_templates_are_kept_shown_and_forgotten(client: httpx.AsyncClient) -> None:
    kept = (await client.put("/v1/templates/two", json={"blueprint": BLUEPRINT})).json()
    assert (kept["name"], kept["blueprint"]) == ("two", BLUEPRINT)
    assert (await client.get("/v1/templates")).json() == [kept]
    made = await asked(client, blueprint="", template="two")
    assert len(made["nodes"]) == 2
    bad = await client.put("/v1/templates/two", json={"blueprint": "version: 1\n"})
    check_problem(bad, 422, "invalid-blueprint", "template two: line 1")
    check_problem(await client.put("/v1/templates/No", json={"blueprint": BLUEPRINT}), 400, "bad-request", "a-z")
    assert (await client.delete("/v1/templates/two")).status_code == 200
    check_problem(await client.get("/v1/templates/two"), 404, "not-found", "there are: none yet")


async def test_times_of_a_project_are_set_and_shown(client: httpx.AsyncClient) -> None:
    changed = (await client.patch("/v1/projects/shop", json={"ttl": "30m", "most_ttl": "1h"})).json()
    assert (changed["ttl_s"], changed["most_ttl_s"]) == (1800, 3600)
    assert (await asked(client))["contract"]["ttl_s"] == 1800
    check_problem(await client.patch("/v1/projects/shop", json={"ttl": "0s"}), 400, "bad-request", "ttl: expected more")


async def test_a_role_is_scaled_and_what_cannot_be_is_a_problem(app: Application, client: httpx.AsyncClient) -> None:
    made = await asked(client)
    early = await client.post(f"/v1/environments/{made['id']}/scale", json={"role": "web", "count": 3})
    check_problem(early, 409, "invalid-transition")
    lease(app, made["id"])
    loaded = app.books.environments.get(made["id"])
    served = loaded.value.with_nodes(replace(one, state=NodeState.IN_SERVICE) for one in loaded.value.nodes)
    app.books.commit(app.books.environments.kind.put(made["id"], served, loaded.version))
    app.projects.change("shop", ProjectChange(quota={"nodes": "4"}))
    scale = made["links"]["scale"]
    for wish, status, code, word in (
        ({"role": "web", "count": 9}, 409, "over-quota", "7 are wanted, 2 of 4 are in use"),
        ({"role": "web", "count": 0}, 409, "guard-refused", "destroy the whole environment"),
        ({"role": "db", "count": 2}, 400, "bad-request", "has no role 'db'; it has: web"),
        ({"role": "web", "count": -1}, 422, "bad-request", "count"),
        ({"role": "web", "count": 1, "drain": "soon"}, 400, "bad-request", "drain: expected a duration"),
        ({"role": "web", "count": 1, "drain": "1h"}, 400, "bad-request", "drain: expected 0 to 600 s, not 3600"),
    ):
        refused = await client.post(scale, json=wish)
        check_problem(refused, status, code)
        assert word in refused.json()["detail"], refused.text
    dry = await client.post(scale, json={"role": "web", "count": 4, "dry_run": True})
    assert dry.json()["scaling"]["coming"] == ["web-2", "web-3"]
    begun = await client.post(scale, json={"role": "web", "count": 3, "reason": "the fair"})
    assert (begun.status_code, begun.json()["contract"]["costs"]["nodes"]) == (202, 3)
    assert begun.json()["scaling"]["why"] == "the fair"
    busy = await client.post(scale, json={"role": "web", "count": 2})
    check_problem(busy, 409, "invalid-transition")
