"""Two schedulers with stale snapshots on one real Redis: nothing is ever overbooked, nobody is placed twice."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.stores.redis import RedisStore
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.envs.books import ENVIRONMENTS, Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from tests.plugins.redis_server import RedisServer
from tests.tools.requests import SINGLE, ask, provider, requested

MACHINES = 100
#: Nodes of 1 vCPU that a machine holds.
SLOTS = 80
REQUESTS = 10_000
#: Rounds of each scheduler, more than it takes when all goes well.
ROUNDS = 60


def scheduler(server: RedisServer) -> tuple[Books, Scheduler]:
    books, clock = Books(RedisStore(server.client())), SystemClock()
    gate = Gate(books, clock)
    account = provider("lab", clock)
    inventories = Inventories(books, clock, gate)
    return books, Scheduler(books, lambda _: account, inventories, Preemptions(books, gate), clock)


@pytest.mark.redis
@pytest.mark.timeout(300)
def test_ten_thousand_requests_never_overbook(redis_server: RedisServer) -> None:
    capacity = {"vcpu": float(SLOTS), "memory_mib": 512.0 * SLOTS, "disk_gib": 5.0 * SLOTS}
    machines = tuple(Machine(f"m{at:03}", f"z{at % 10}", capacity) for at in range(MACHINES))
    inventory = Inventory(machines, tuple(Zone(f"z{at}") for at in range(10)))
    books, first = scheduler(redis_server)
    _, second = scheduler(redis_server)
    clock = SystemClock()
    Inventories(books, clock, Gate(books, clock)).sync("lab", inventory)
    ask(books, (requested(f"env-{at:05}", SINGLE, "lab", clock.now(), f"p{at % 9}") for at in range(REQUESTS)))

    def turn(one: Scheduler) -> None:
        for _ in range(ROUNDS):
            one.reserve(None)
            if books.store.count("environments:standing:lab") == MACHINES * SLOTS:
                return

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(turn, (first, second)))
    standing = books.environments.everything("environments:standing:lab")
    on = Counter(node.machine for loaded in standing for node in loaded.value.nodes)
    assert max(on.values()) <= SLOTS
    assert sum(on.values()) == MACHINES * SLOTS
    for _ in range(ROUNDS):  # one look does not tell thousands
        first.reserve(None)
        if all(one.wait is not None for one in first.waiting().values()):
            break
    left = books.environments.everything("environments:requested")
    assert len(left) == REQUESTS - MACHINES * SLOTS
    assert {loaded.value.state for loaded in left} == {EnvironmentState.REQUESTED}
    assert all(loaded.value.reason.startswith("waits, position") for loaded in left)


@pytest.mark.redis
@pytest.mark.timeout(300)
def test_guaranteed_requests_take_what_they_need_and_no_more(redis_server: RedisServer) -> None:
    capacity = {"vcpu": float(SLOTS), "memory_mib": 512.0 * SLOTS, "disk_gib": 5.0 * SLOTS}
    inventory = Inventory(tuple(Machine(f"m{at}", "z", capacity) for at in range(5)), (Zone("z"),))
    (books, first), (_, second) = scheduler(redis_server), scheduler(redis_server)
    clock = SystemClock()
    Inventories(books, clock, Gate(books, clock)).sync("lab", inventory)
    modest, firm = (EnvironmentSpec("debian-12", (RoleSpec("web", qos=QosProfile(one)),)) for one in (BEST, FIRM))
    ask(books, (requested(f"env-modest-{at:03}", modest, "lab", clock.now()) for at in range(5 * SLOTS)))
    for _ in range(3):
        first.reserve(None)
    for loaded in books.environments.everything("environments:standing:lab"):
        leased = replace(loaded.value, state=EnvironmentState.LEASED)
        books.commit(ENVIRONMENTS.put(leased.id, leased, loaded.version))
    ask(books, (requested(f"env-firm-{at:03}", firm, "lab", clock.now()) for at in range(30)))
    for _ in range(10):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda one: one.reserve(None), (first, second)))
        _let_them_go(books)
    standing = [one.value for one in books.environments.everything("environments:standing:lab")]
    assert Counter(one.id.rpartition("-")[0] for one in standing) == {"env-firm": 30, "env-modest": 5 * SLOTS - 30}
    assert max(Counter(node.machine for one in standing for node in one.nodes).values()) <= SLOTS


BEST, FIRM = QosClass.BEST_EFFORT, QosClass.GUARANTEED


def _let_them_go(books: Books) -> None:
    """Whoever was told to go is gone."""
    for loaded in books.environments.everything("environments:noticed"):
        gone = replace(loaded.value, state=EnvironmentState.DESTROYED)
        books.commit(ENVIRONMENTS.put(gone.id, gone, loaded.version))
