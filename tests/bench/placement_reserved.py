"""`placement_5k_reserved`: from pending requests to committed reservations with events in a real Redis, in one tick."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.stores.redis import RedisStore
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from tests.bench import placement
from tests.bench.figures import Figure
from tests.plugins.redis_server import RedisServer
from tests.tools.requests import SINGLE, SPEC, ask, provider, requested

REQUESTS = 600


def measure() -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as home:
        server = RedisServer(Path(home))
        server.start()
        try:
            yield _measure(RedisStore(server.client()))
        finally:
            server.stop()


def _measure(store: RedisStore) -> Figure:
    books, clock = Books(store), SystemClock()
    gate = Gate(books, clock)
    inventories = Inventories(books, clock, gate)
    known = placement.inventory(5000, 75)
    inventories.sync("lab", known)
    inventories.report_loads("lab", {machine.name: placement.idle(clock.now()) for machine in known.machines})
    scheduler = Scheduler(books, lambda name: provider(name, clock), inventories, Preemptions(books, gate), clock)
    ask(books, [requested("env-first", SINGLE, "lab", clock.now())])
    scheduler.reserve(None)
    ask(books, (requested(f"env-{at:05}", SPEC, "lab", clock.now(), f"p{at % 7}") for at in range(REQUESTS)))
    began = time.perf_counter()
    scheduler.reserve(None)
    took = time.perf_counter() - began
    placed = sum(len(loaded.value.nodes) for loaded in books.environments.everything("environments:standing:lab")) - 1
    if placed != REQUESTS * len(SPEC.node_names):
        raise RuntimeError(f"{placed} nodes were placed")
    told = f"{REQUESTS} environments of 3 nodes in one tick, a real Redis that syncs each write, the snapshot kept"
    return Figure("placement_5k_reserved", placed / took, "nodes/s", told, "1000")
