"""A warm pool of real nodes over HTTP: handed out with the requester's key, and no other one gets in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pipeline.envs.access import access_of
from pipeline.ports.common import Limits
from tests.integration.test_requests_on_nodes import PLAIN, Person
from tests.plugins.local_nodes import why_not
from tests.tools import asking
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]
FILL_S = 60.0
LIMITS = Limits(total_s=20, silence_s=20)


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running() as one:
        one("project", "add", PROJECT)
        yield one


@pytest.fixture
def api(up: Deployed) -> Iterator[httpx.Client]:
    with asking.client(up) as one:
        yield one


def plant(up: Deployed, id: str, key: str) -> None:
    """Let somebody else in, as if it had been forgotten there."""
    access = access_of(up.app.books.environments.get(id).value, up.app.secrets)
    with up.app.transport.connect(access) as connection:
        for node in access.nodes:
            line = f"echo '{key}' | tee -a ~root/.ssh/authorized_keys > ~root/.ssh/authorized_keys2"
            assert connection.run(node.name, line, limits=LIMITS, output=lambda _: None) == 0


def test_only_the_new_key_gets_in(up: Deployed, api: httpx.Client, tmp_path: Path) -> None:
    ada, eve = Person(tmp_path, "ada"), Person(tmp_path, "eve")
    api.put("/v1/templates/pair", json={"blueprint": PLAIN}).raise_for_status()
    up("pool", "set", "pair", "--ready", "1", "--max", "2", "-p", PROJECT)
    wait_for(lambda: up.json("pool", "show", "pair")["ready"] == 1, "a full pool", FILL_S)
    (kept,) = api.get("/v1/environments", params={"state": "ready"}).json()["items"]
    plant(up, kept["id"], eve.public)
    refused = api.post(f"/v1/environments/{kept['id']}/ssh")
    assert (refused.status_code, "belongs to warm pool pair" in refused.text) == (409, True)

    body = {"project": PROJECT, "template": "pair", "owner": "ada", "public_keys": [ada.public]}
    answer = api.post("/v1/environments", json=body, headers={"Idempotency-Key": "one"})
    assert (answer.status_code, answer.json()["id"]) == (201, kept["id"]), answer.text
    mine = answer.json()
    assert (mine["state"], mine["pool"], mine["contract"]["pool"]) == ("leased", "pair", "pair")
    assert mine["contract"]["ready_at"]
    nodes = api.post(f"/v1/environments/{mine['id']}/ssh").json()["nodes"]
    assert len(nodes) == 2
    for node in nodes:
        assert ada.says(node, "hostname") == (0, node["name"])
        assert eve.says(node, "true")[0] == 255
    again = api.post("/v1/environments", json=body, headers={"Idempotency-Key": "one"})
    assert (again.status_code, again.json()["id"]) == (201, mine["id"])
    assert again.headers["idempotent-replayed"] == "true"

    wait_for(lambda: up.json("pool", "show", "pair")["ready"] == 1, "the next one", FILL_S)
    shown = up("pool", "show", "pair")
    assert "1 of 1" in shown
    up("pool", "rm", "pair")
    api.post(f"/v1/environments/{mine['id']}/release").raise_for_status()
    wait_for(lambda: not [one for one in up.json("env", "ls") if one["state"] != "destroyed"], "the end", FILL_S)
