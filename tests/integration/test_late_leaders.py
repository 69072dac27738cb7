"""A leader that stops before its write, while another takes over, on one real Redis: its write is refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest
import redis

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.stores.redis import RedisStore
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import Fenced
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.envs.books import ENVIRONMENTS, Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from pipeline.ports.stores import Commit, Fence
from tests.plugins.redis_server import RedisServer
from tests.tools.requests import ask, provider, requested

#: How long a leader has its office, in seconds.
OFFICE_S = 0.2
MODEST, FIRM = (
    EnvironmentSpec("debian-12", (RoleSpec("web", qos=QosProfile(one)),))
    for one in (QosClass.BEST_EFFORT, QosClass.GUARANTEED)
)

pytestmark = pytest.mark.redis


class LateStore(RedisStore):
    """Does something else before its next write."""

    def __init__(self, client: redis.Redis) -> None:
        super().__init__(client)
        self.meanwhile: Callable[[], None] | None = None

    def commit(self, commit: Commit) -> None:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        super().commit(commit)


class Leader:
    """A scheduler with a view of its own, that holds the office."""

    def __init__(self, server: RedisServer, name: str) -> None:
        self.name, self.store, clock = name, LateStore(server.client()), SystemClock()
        self.books, account = Books(self.store), provider("lab", clock)
        gate = Gate(self.books, clock)
        self.inventories = Inventories(self.books, clock, gate)
        preemptions = Preemptions(self.books, gate)
        self.scheduler = Scheduler(self.books, lambda _: account, self.inventories, preemptions, clock)

    def lead(self) -> Fence:
        fence = self.store.acquire("tick", self.name, OFFICE_S)
        assert fence is not None, "somebody else leads"
        return fence

    def take_over(self) -> None:
        time.sleep(1.5 * OFFICE_S)
        self.scheduler.reserve(self.lead())


@pytest.fixture
def leaders(redis_server: RedisServer) -> tuple[Leader, Leader]:
    """Two of them, over one machine for one node."""
    first, second = Leader(redis_server, "first"), Leader(redis_server, "second")
    first.inventories.sync("lab", Inventory((Machine("m1", "z", {"vcpu": 1.0}),), (Zone("z"),)))
    return first, second


def test_a_reservation_that_comes_late_is_refused(leaders: tuple[Leader, Leader]) -> None:
    first, second = leaders
    ask(first.books, (requested(f"env-{at}", MODEST, "lab", at) for at in range(2)))
    first.store.meanwhile = second.take_over
    with pytest.raises(Fenced):
        first.scheduler.reserve(first.lead())
    (standing,) = first.books.environments.everything("environments:standing:lab")
    assert (standing.value.id, standing.version) == ("env-0", 2)
    assert len([event for event in first.store.events("env-0") if event.type == "environment.reserved"]) == 1
    assert len(first.store.peek(10)) == 1


def test_a_notice_that_comes_late_is_refused(leaders: tuple[Leader, Leader]) -> None:
    first, second = leaders
    ask(first.books, [requested("env-modest", MODEST, "lab", time.time())])
    first.scheduler.reserve(None)
    standing = first.books.environments.get("env-modest")
    leased = replace(standing.value, state=EnvironmentState.LEASED)
    first.books.commit(ENVIRONMENTS.put(leased.id, leased, standing.version))
    ask(first.books, (requested(f"env-firm-{at}", FIRM, "lab", time.time()) for at in range(2)))
    first.store.meanwhile = second.take_over
    with pytest.raises(Fenced):
        first.scheduler.reserve(first.lead())
    (noticed,) = first.books.environments.everything("environments:noticed")
    (nominated,) = first.books.environments.everything("environments:nominated")
    assert noticed.value.notice is not None
    assert (noticed.value.notice.by, nominated.value.id) == (nominated.value.id, "env-firm-0")
    assert len([event for event in first.store.events("audit") if event.type == "audit.preempt"]) == 1


def test_what_was_handed_over_late_is_not_dropped(leaders: tuple[Leader, Leader]) -> None:
    first, second = leaders
    ask(first.books, [requested("env-0", MODEST, "lab", time.time())])
    old = first.lead()
    second.take_over()
    seen = first.store.peek(10)
    with pytest.raises(Fenced):
        first.store.drop(len(seen), old)
    assert first.store.peek(10) == seen != ()
