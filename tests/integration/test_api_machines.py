"""Registered machines over the API and a real Redis, without workers and without machines: answers and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.drivers.static.memory import MemoryHands, MemoryMachines
from pipeline.bootstrap import Application
from pipeline.domain.registered import Wanted
from pipeline.settings import ProviderSettings, Settings
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer

pytestmark = pytest.mark.redis
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
NEW = {
    "provider": "metal", "name": "m1", "address": "192.0.2.1", "host_key": f"{HOST_KEY} root@m1", "zone": "rack-a",
    "images": ["debian-12"], "aggregates": ["nvme"], "capacity": {"vcpu": 16}, "reset": "make-clean",
}  # fmt: skip
WHY = {"reason": "a new disk"}


@pytest.fixture
def machines() -> MemoryMachines:
    return MemoryMachines(host_keys={"192.0.2.1": HOST_KEY})


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path, machines: MemoryMachines) -> Iterator[Application]:
    providers = {"metal": ProviderSettings(driver="static"), "memory": ProviderSettings(driver="memory")}
    app = Application(
        Settings(home=tmp_path, redis_url=redis_server.url, default_provider="metal", providers=providers)
    )
    app.hands = MemoryHands(machines, app.settings.deployment)
    app.sync_inventory("metal")
    yield app
    app.redis.close()


async def add(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post("/v1/machines", json={**NEW, **changes})
    assert answer.status_code == 201, answer.text
    view: dict[str, Any] = answer.json()
    return view


async def of(client: httpx.AsyncClient, name: str = "m1") -> dict[str, Any]:
    view: dict[str, Any] = (await client.get(f"/v1/machines/metal/{name}")).json()
    return view


async def test_a_machine_is_added_cleaned_and_found(app: Application, client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/machines?provider=metal")).json() == []
    added = await add(client)
    own = added["registered"]
    assert (own["state"], own["address"], own["host_key"], own["used_by"]) == ("dirty", "192.0.2.1", HOST_KEY, "")
    assert (added["kind"], added["state"], added["capacity"]) == ("bare-metal", "draining", {"vcpu": 16})
    assert (await of(client))["registered"] == own
    assert [job.task for job in app.store.peek(10)] == ["clean_machine"]
    app.work(lambda *_: pytest.fail("no run")).clean_machine("metal", "m1")
    found = await of(client)
    assert (found["state"], found["registered"]["state"]) == ("in-service", "free")
    told = (await client.get("/v1/audit")).json()[0]
    assert (told["act"], told["target"], told["why"]) == ("register", "machine metal/m1", "registered by hand")


async def test_a_dry_run_registers_nothing(client: httpx.AsyncClient) -> None:
    await add(client, dry_run=True)
    assert (await client.get("/v1/machines?provider=metal")).json() == []


async def test_a_host_key_is_shown_before_it_is_believed(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/machines", json={**NEW, "host_key": ""})
    check_problem(answer, 409, "host-key-unknown", "compare it with the machine's own")
    assert answer.json()["host_key"] == HOST_KEY
    assert (await client.get("/v1/machines/host-key?address=192.0.2.1")).json() == {"key": HOST_KEY}
    check_problem(await client.get("/v1/machines/host-key?address=192.0.2.9"), 422, "unreachable", "192.0.2.9:22")
    check_problem(await client.get("/v1/machines/host-key?address=-oX"), 422, "bad-request")


@pytest.mark.parametrize(
    ("changes", "status", "code", "says"),
    [
        ({"provider": "memory"}, 400, "bad-request", "these do: metal"),
        ({"provider": "none"}, 400, "bad-request", "these do: metal"),
        ({"name": "m 1"}, 422, "bad-request", "name"),
        ({"kind": "hypervisor"}, 422, "bad-request", "kind"),
        ({"address": "-oProxyCommand=x"}, 422, "bad-request", "address"),
        ({"images": []}, 422, "bad-request", "images"),
        ({"reset": " "}, 400, "bad-request", "reset command"),
        ({"capacity": {"vcpus": 1}}, 400, "bad-request", "vcpus"),
        ({"address": "192.0.2.9", "host_key": ""}, 422, "unreachable", "machine m1 was not registered: 192.0.2.9:22"),
    ],
)
async def test_what_cannot_be_registered_is_told(
    client: httpx.AsyncClient, changes: dict[str, Any], status: int, code: str, says: str
) -> None:
    check_problem(await client.post("/v1/machines", json={**NEW, **changes}), status, code, says)
    assert (await client.get("/v1/machines?provider=metal")).json() == []


async def test_a_dead_machine_is_not_registered(client: httpx.AsyncClient, machines: MemoryMachines) -> None:
    machines.dead["m1"] = "connection refused"
    answer = await client.post("/v1/machines", json=NEW)
    check_problem(answer, 422, "unreachable", "machine m1 was not registered")
    assert "connection refused" in answer.json()["detail"]
    assert "greenroom machines key" in answer.json()["detail"]
    assert (await client.get("/v1/machines?provider=metal")).json() == []


async def test_a_name_and_an_address_are_taken_once(client: httpx.AsyncClient) -> None:
    await add(client)
    check_problem(await client.post("/v1/machines", json=NEW), 409, "already-exists", "has a machine m1 already")
    other = {**NEW, "name": "m2"}
    check_problem(await client.post("/v1/machines", json=other), 409, "already-exists", "registered as metal.m1")


async def test_who_has_a_machine_is_not_robbed(app: Application, client: httpx.AsyncClient) -> None:
    await add(client)
    app.work(lambda *_: pytest.fail("no run")).clean_machine("metal", "m1")
    app.stock("metal").claim(app.settings.deployment, "env-1", 2e9, [Wanted("db-0", "debian-12", "m1")])
    assert (await of(client))["registered"]["used_by"] == "env-1/db-0"
    acts = (("remove", WHY), ("state", {"state": "draining", **WHY}), ("state", {"state": "quarantined", **WHY}))
    for act, body in acts:
        answer = await client.post(f"/v1/machines/metal/m1/{act}", json=body)
        check_problem(answer, 409, "guard-refused", "in use by env-1/db-0")
    check_problem(await client.delete("/v1/machines/metal/m1"), 409, "guard-refused", "env-1/db-0")
    check_problem(await client.post("/v1/machines/metal/m1/release", json={}), 409, "invalid-transition", "env-1/db-0")
    overridden = {"state": "draining", **WHY, "overrides": {"in-use": "it must be today"}}
    drained = (await client.post("/v1/machines/metal/m1/state", json=overridden)).json()
    assert (drained["state"], drained["registered"]["state"]) == ("draining", "leased")


async def test_it_is_released_and_removed(app: Application, client: httpx.AsyncClient) -> None:
    await add(client)
    app.work(lambda *_: pytest.fail("no run")).clean_machine("metal", "m1")
    await client.post("/v1/machines/metal/m1/state", json={"state": "quarantined", **WHY})
    tried = (await client.post("/v1/machines/metal/m1/release", json={"dry_run": True})).json()
    assert (tried["registered"]["state"], (await of(client))["state"]) == ("free", "quarantined")
    assert (await client.post("/v1/machines/metal/m1/release", json=WHY)).status_code == 202
    assert (await of(client))["registered"]["state"] == "dirty"
    app.work(lambda *_: pytest.fail("no run")).clean_machine("metal", "m1")
    assert (await of(client))["state"] == "in-service"
    assert (await client.delete("/v1/machines/metal/m1?dry_run=true")).status_code == 200
    assert (await of(client))["name"] == "m1"
    assert (await client.delete("/v1/machines/metal/m1")).status_code == 200
    for gone in (
        await client.get("/v1/machines/metal/m1"),
        await client.delete("/v1/machines/metal/m1"),
        await client.post("/v1/machines/metal/m1/release", json={}),
        await client.get("/v1/machines/none/m1"),
    ):
        assert gone.status_code in {400, 404}, gone.text
    await add(client)


async def test_the_key_of_the_service_is_shown(client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/machines/key")).json()["key"].startswith("ssh-ed25519 ")
