"""What must be refused is refused with problem+json that says which, why, and what to do; nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.drivers.static.memory import MemoryHands, MemoryMachines
from pipeline.bootstrap import Application
from pipeline.domain.environments import EnvironmentState, NodeState
from pipeline.domain.leases import begun
from pipeline.domain.projects import ProjectChange
from pipeline.domain.stagings import Slot, SlotName, SlotState
from pipeline.envs.books import STAGINGS
from pipeline.settings import ProviderSettings, Settings
from tests.integration.test_api import check_problem
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import make_repository

pytestmark = pytest.mark.redis
BLUEPRINT = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"web": {"count": 2}}},
    "test": [],
}
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5"
MACHINE = {
    "provider": "metal", "name": "m1", "address": "192.0.2.1", "host_key": f"{HOST_KEY} root@m1", "zone": "rack-a",
    "images": ["debian-12"], "aggregates": ["nvme"], "capacity": {"vcpu": 16}, "reset": "make-clean",
}  # fmt: skip
WISH = {"project": "shop", "ref": "main"}
#: The environments that stand: one on request, and the one in a live slot.
MINE, LIVE = "env-mine", "env-live"


@dataclass(frozen=True)
class Refusal:
    """A call, and what its answer has to say: `words` are which, why, and what to do."""

    method: str
    path: str
    body: Mapping[str, Any] | None
    status: int
    type_: str
    words: tuple[str, str, str]
    headers: Mapping[str, str] | None = None


REFUSED = {
    "an unknown template": Refusal(
        "POST", "/v1/environments", {"project": "shop", "template": "nope"}, 404, "not-found",
        ("template 'nope'", "there are: none yet", "`PUT /v1/templates/NAME` keeps one"),
    ),
    "a ref that does not exist": Refusal(
        "POST", "/v1/environments", {**WISH, "ref": "nope"}, 404, "not-found",
        ("nope", "has no branch, tag or commit", "push it first, or name one that is there"),
    ),
    "a ref to deploy that does not exist": Refusal(
        "POST", "/v1/stagings/front/deploy", {"ref": "nope"}, 404, "not-found",
        ("nope", "has no branch, tag or commit", "push it first, or name one that is there"),
    ),
    "a name taken": Refusal(
        "POST", "/v1/environments", {**WISH, "name": "demo"}, 409, "already-exists",
        ("'demo'", f"already: {MINE}", "take another name, or release that one"),
    ),
    "a time to live beyond the project's maximum": Refusal(
        "POST", "/v1/environments", {**WISH, "ttl": "3d"}, 400, "bad-request",
        ("a time to live of 3d", "project shop allows 1d", "ask for less, or let an operator raise its `most_ttl`"),
    ),
    "a scale beyond quota": Refusal(
        "POST", f"/v1/environments/{MINE}/scale", {"role": "web", "count": 9}, 409, "over-quota",
        ("quota of nodes", "7 are wanted, 4 of 6 are in use", "or let an operator raise the quota"),
    ),
    "a promote of a slot that never passed": Refusal(
        "POST", "/v1/stagings/front/promote", None, 409, "invalid-transition",
        ("slot green", "failed", "greenroom staging deploy front REF"),
    ),
    "a delete of a live slot's environment": Refusal(
        "DELETE", f"/v1/environments/{LIVE}", None, 409, "guard-refused",
        (LIVE, "sends traffic to it", "drain it first"),
    ),
    "a delete of a staging with a live slot": Refusal(
        "DELETE", "/v1/stagings/front", None, 409, "guard-refused", ("staging front", "slot blue is live", "drain it"),
    ),
    "a machine whose SSH is dead": Refusal(
        "POST", "/v1/machines", MACHINE, 422, "unreachable",
        ("machine m1 was not registered", "connection refused", "greenroom machines key"),
    ),
    "the same Idempotency-Key with another body": Refusal(
        "POST", "/v1/environments", {**WISH, "why": "else"}, 422, "idempotency-key-reused",
        ("'one'", f"another request, which made {MINE}", "use a new key"), {"idempotency-key": "one"},
    ),
    "a snapshot that its driver cannot take": Refusal(
        "POST", f"/v1/environments/{MINE}/snapshot", None, 409, "not-supported",
        (MINE, "provider memory, which takes no snapshots: only providers on OpenStack do", "`PUT /v1/templates/NAME`"),
    ),
    "an address without a role that answers": Refusal(
        "GET", f"/v1/environments/{MINE}/address", None, 404, "not-found",
        (MINE, "does not say where it answers requests", "give its first deploy"),
    ),
}  # fmt: skip


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    providers = {"memory": ProviderSettings(driver="memory"), "metal": ProviderSettings(driver="static")}
    settings = Settings(
        home=tmp_path / "home",
        redis_url=redis_server.url,
        base_domain="test.example",
        default_provider="memory",
        providers=providers,
    )
    app = Application(settings)
    hands = MemoryMachines(host_keys={"192.0.2.1": HOST_KEY}, dead={"m1": "connection refused"})
    app.hands = MemoryHands(hands, settings.deployment)
    app.projects.add("shop", repository=make_repository(tmp_path / "shop.git", BLUEPRINT))
    yield app
    app.redis.close()


async def prepare(app: Application, client: httpx.AsyncClient) -> None:
    """One environment on request, and a staging whose blue slot is live and whose green one failed."""
    one = await client.post("/v1/environments", json={**WISH, "name": "demo"}, headers={"idempotency-key": "one"})
    staging = await client.put("/v1/stagings/front", json={"project": "shop", "role": "web", "port": 8080})
    assert (one.status_code, staging.status_code) == (202, 200), (one.text, staging.text)
    loaded, now = app.books.environments.get(one.json()["id"]), app.clock.now()
    nodes = [replace(node, state=NodeState.IN_SERVICE) for node in loaded.value.nodes]
    mine = begun(replace(loaded.value, state=EnvironmentState.LEASED), now).with_nodes(nodes)
    put = app.books.environments.kind.put
    app.books.commit(put(mine.id, mine, loaded.version))
    app.projects.change("shop", ProjectChange(quota={"nodes": "6"}))
    live = replace(mine, id=LIVE)
    blue = Slot(SlotState.PASSED, LIVE, 1, "v1", "1" * 40, passed_at=1.0)
    green = Slot(SlotState.FAILED, "env-bad", 2, "v2", "2" * 40, fault="run run-1 failed: test")
    front = app.books.stagings.get("front")
    staged = replace(front.value, live=SlotName.BLUE, blue=blue, green=green)
    app.books.commit(put(LIVE, live, 0), STAGINGS.put("front", staged, front.version))


@pytest.mark.parametrize("case", REFUSED)
async def test_it_says_which_why_and_what_to_do(app: Application, client: httpx.AsyncClient, case: str) -> None:
    await prepare(app, client)
    told, mine = REFUSED[case], (await client.get("/v1/environments?limit=2")).json()["items"]
    id = next(one["id"] for one in mine if one["id"] != LIVE)
    stood = (app.store.count("environments"), app.store.count("registered"))
    path = told.path.replace(MINE, id)
    answer = await client.request(told.method, path, headers=told.headers, json=told.body)
    for word in told.words:
        check_problem(answer, told.status, told.type_, word.replace(MINE, id))
    assert (app.store.count("environments"), app.store.count("registered")) == stood
