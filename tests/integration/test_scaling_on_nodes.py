"""An environment on real nodes grows from one node to three and back, and loses one, while it is asked all the time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from tests.plugins.local_nodes import why_not
from tests.tools import asking
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

BLUEPRINT = """\
version: 1
service: served
environment:
  image: debian-12
  roles:
    web: {count: 1, size: tiny}
configure: {with: script}
deploy:
  - {role: web, to: /srv/served, run: ["bin/serve"], ready: {http: ":8000/name"}}
test: []
"""
FILES = {
    "greenroom.yml": BLUEPRINT,
    "bin/serve": "#!/bin/sh\nhostname > name\nsetsid python3 -m http.server 8000 </dev/null >/dev/null 2>&1 &\n",
}
#: A node that is out of traffic stands for so long; whoever asks looks for nodes far more often.
DRAIN = "3s"
LOOK_S, PATIENCE_S = 0.1, 90.0

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running(workers=2) as one:
        one.add_project()
        one.commit(FILES)
        yield one


@pytest.fixture
def api(up: Deployed) -> Iterator[httpx.Client]:
    with asking.client(up) as one:
        yield one


class Visitor:
    """Asks every node that is in service, again and again, as a router would."""

    def __init__(self, api: httpx.Client, id: str) -> None:
        self._api = api
        self._id = id
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._over = threading.Event()

    @contextmanager
    def asks(self) -> Iterator[Visitor]:
        thread = threading.Thread(target=self._ask)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(timeout=5, trust_env=False) as client:
            while not self._over.wait(LOOK_S):
                for node in serving(self._api.get(f"/v1/environments/{self._id}").json()):
                    self._visit(client, node)

    def _visit(self, client: httpx.Client, node: dict[str, Any]) -> None:
        try:
            self.answers[client.get(f"http://{node['address']}:8000/name").raise_for_status().text.strip()] += 1
        except httpx.HTTPError as error:
            self.failures.append(f"{node['name']}: {error!r}")


def serving(environment: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in environment["nodes"] if node["state"] == "in-service"]


def scaled(api: httpx.Client, id: str, count: int) -> dict[str, Any]:
    """The environment once it was brought to so many nodes."""
    asked = api.post(f"/v1/environments/{id}/scale", json={"role": "web", "count": count, "drain": DRAIN})
    assert asked.status_code == 202, asked.text
    return wait_for(lambda: at_rest(api, id, count), f"{count} nodes", PATIENCE_S)


def at_rest(api: httpx.Client, id: str, count: int) -> dict[str, Any] | None:
    found: dict[str, Any] = api.get(f"/v1/environments/{id}").json()
    rests = found["scaling"] is None and len(serving(found)) == count == len(found["nodes"])
    return found if rests and not found["degraded"] else None


def test_one_three_one_without_a_failed_request(up: Deployed, api: httpx.Client) -> None:
    id = made(api)
    with Visitor(api, id).asks() as visitor:
        grown = scaled(api, id, 3)
        before = visitor.answers.total()
        wait_for(lambda: visitor.answers.total() > before + 30, "answers of three nodes", PATIENCE_S)
        shrunk = scaled(api, id, 1)
        time.sleep(1)
    assert visitor.failures == []
    assert set(visitor.answers) == {"web-0", "web-1", "web-2"}
    assert [node["name"] for node in shrunk["nodes"]] == ["web-0"]
    assert shrunk["nodes"][0]["address"] == grown["nodes"][0]["address"]
    assert up.app.standing("local") == [f"{id}/web-0"]
    refused = api.post(f"/v1/environments/{id}/scale", json={"role": "web", "count": 0})
    assert (refused.status_code, refused.json()["guard"]) == (409, "last-node")
    assert refused.headers["content-type"] == "application/problem+json"
    up("env", "rm", id)
    assert up.traces() == {}


def test_a_node_that_dies_is_replaced(up: Deployed, api: httpx.Client) -> None:
    id = made(api)
    two = scaled(api, id, 2)
    up.app.provider("local").driver.destroy(id, ["web-1"])
    wait_for(lambda: any(node["state"] == "lost" for node in nodes(api, id)), "the loss", PATIENCE_S)
    again = wait_for(lambda: at_rest(api, id, 2), "another node", PATIENCE_S)
    assert again["nodes"][0] == two["nodes"][0]
    word = httpx.get(f"http://{again['nodes'][1]['address']}:8000/name", timeout=5, trust_env=False)
    assert word.text.strip() == "web-1"
    up("env", "rm", id)
    assert up.traces() == {}


def made(api: httpx.Client) -> str:
    id: str = api.post("/v1/environments", json={"project": PROJECT, "ref": "main"}).json()["id"]
    asking.ready(api, id)
    return id


def nodes(api: httpx.Client, id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/v1/environments/{id}/nodes").json()
    return found
