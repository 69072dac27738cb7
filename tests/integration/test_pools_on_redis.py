"""A warm pool under a crowd, with a real Redis: nothing is handed out twice, and each has its own key alone."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Lock

import pytest

from pipeline.adapters.drivers.memory import MemoryDriver
from pipeline.adapters.transports.memory import Call, MemoryTransport
from pipeline.bootstrap import Application
from pipeline.domain import pools
from pipeline.domain.environments import EnvironmentState, NodeState
from pipeline.envs.books import pool_index
from pipeline.ports.drivers import Capabilities
from pipeline.stages.requests import Answer, Request
from tests.plugins.redis_server import RedisServer
from tests.scenarios.test_requests import KEY, PLAIN
from tests.tools.deployment import memory_settings

pytestmark = [pytest.mark.redis, pytest.mark.timeout(300)]
CLIENTS, CLAIMS, READY = 16, 1000, 400
ASKED = Request("shop", "ada", template="pair", keys=(KEY,))


class Nodes:
    """What stands in the nodes' lists of keys, and how often each was written."""

    def __init__(self) -> None:
        self.keys: dict[tuple[str, str], str] = {}
        self.writes: Counter[str] = Counter()
        self._lock = Lock()

    def answer(self, call: Call) -> int | None:
        if "authorized_keys" not in call.command:
            return None
        with self._lock:
            self.keys[call.environment_id, call.node] = call.stdin.decode()
            self.writes[call.environment_id] += 1
        call.output(f"{call.node}\n".encode() + call.stdin)
        return 0


@pytest.fixture
def nodes() -> Nodes:
    return Nodes()


@pytest.fixture
def app(
    redis_server: RedisServer, tmp_path: Path, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Application]:
    monkeypatch.setattr(MemoryDriver, "capabilities", Capabilities(login=True))
    app = Application(memory_settings(tmp_path, redis_server.url))
    transport = app.provider(app.settings.default_provider).transport
    assert isinstance(transport, MemoryTransport)
    transport.handlers.append(nodes.answer)
    app.projects.add("shop")
    app.templates.keep("pair", json.dumps(PLAIN))
    app.pools.set("pairs", "shop", "pair", READY, pools.MOST, 3600.0)
    yield app
    app.redis.close()


def stock(app: Application, count: int) -> None:
    """Environments of the pool as they are once they were built and asked whether they are well."""
    pool, now = app.pools.get("pairs"), app.clock.now()
    offer = app.pools.offer(pool)
    for _ in range(count):
        asked = pools.stocked(app.ids.new("env"), pool, offer.blueprint, offer.provider, offer.made_of, now)
        serving = [replace(node, state=NodeState.IN_SERVICE, address="192.0.2.1") for node in asked.nodes]
        keyed = replace(asked, public_key=f"ssh-ed25519 own-{asked.id}", sealed_key=app.secrets.seal(app.token))
        ready = pools.checked_well(replace(keyed, state=EnvironmentState.READY).with_nodes(serving), now)
        app.books.commit(app.books.environments.kind.put(ready.id, ready, 0))


def claim(app: Application, number: int) -> Answer:
    return app.requests.make(replace(ASKED, owner=f"client-{number}", repeat=f"{number}", body=f"{number}"))


def test_nothing_is_handed_out_twice_in_a_thousand_claims(app: Application, nodes: Nodes) -> None:
    stock(app, READY)
    with ThreadPoolExecutor(CLIENTS) as crowd:
        answers = list(crowd.map(partial(claim, app), range(CLAIMS)))
    got = [one.environment.id for one in answers]
    assert len(set(got)) == CLAIMS  # hits and misses together: nobody shares
    hits = [one.environment for one in answers if one.from_pool]
    assert len(hits) == READY
    assert app.store.count(pool_index("ready", "pairs")) == 0
    assert (app.store.count(pool_index("hits", "pairs")), app.store.count(pool_index("misses", "pairs"))) == (
        READY,
        CLAIMS - READY,
    )
    assert set(nodes.writes.values()) == {len(hits[0].nodes)}  # each was given its keys once
    for one in hits:
        assert one.contract is not None
        expected = f"{one.public_key}\n{KEY}\n"
        assert {nodes.keys[one.id, node.name] for node in one.nodes} == {expected}


def test_fifty_at_once_with_ten_ready_and_each_asked_twice(app: Application) -> None:
    stock(app, 10)
    with ThreadPoolExecutor(50) as crowd:
        answers = list(crowd.map(partial(claim, app), chain(range(25), range(25))))
    mine = {one.environment.contract.owner: one.environment.id for one in answers if one.environment.contract}
    assert len(mine) == len(set(mine.values())) == 25
    assert {one.environment.id for one in answers} == set(mine.values())  # asked again, the same one
    found = app.books.environments.many(sorted(mine.values()))
    assert sum(one.value.warm is not None for one in found) == 10
