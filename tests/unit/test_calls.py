"""Calls to a driver: what counts against the provider, who probes, and what waits for its turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.breakers import FAILURES, PAUSE_S, BreakerState, Call
from pipeline.domain.errors import CallsPaused, CapacityError, InfraError, PermanentError, TransientError
from pipeline.domain.limits import Slots
from pipeline.envs.books import Books
from pipeline.envs.calls import SLOT_S, Breakers, CallLimits, WatchedDriver
from pipeline.ports.drivers import Listing


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


@pytest.fixture
def store(clock: ManualClock) -> MemoryStore:
    return MemoryStore(clock)


@pytest.fixture
def watch(clock: ManualClock, cloud: MemoryCloud, store: MemoryStore) -> Callable[..., WatchedDriver]:
    def made(max_deletes: int | None = None, calls_per_s: float | None = None) -> WatchedDriver:
        driver = MemoryDriver(cloud, "ours")
        return WatchedDriver("lab", driver, Books(store), clock, CallLimits(max_deletes, calls_per_s))

    return made


def fail(cloud: MemoryCloud, driver: WatchedDriver, *errors: InfraError) -> None:
    for error in errors:
        cloud.fail_list.append(error)
        with pytest.raises(type(error)):
            driver.list()


def break_it(cloud: MemoryCloud, driver: WatchedDriver) -> None:
    fail(cloud, driver, *[TransientError("timeout")] * (FAILURES - 1))
    cloud.fail_list.append(TransientError("the fifth"))
    with pytest.raises(
        CallsPaused, match=r"list calls are paused until .* UTC after 5 failures \(last: the fifth\)"
    ) as told:
        driver.list()
    assert isinstance(told.value.__cause__, TransientError)


def state(store: MemoryStore, clock: ManualClock, call: Call = Call.LIST) -> BreakerState:
    return Breakers(Books(store), clock).of("lab")[call].state


def test_only_what_speaks_of_the_provider_counts(
    cloud: MemoryCloud, store: MemoryStore, clock: ManualClock, watch: Callable[..., WatchedDriver]
) -> None:
    driver = watch()
    fail(cloud, driver, *[CapacityError("full")] * 10, *[PermanentError("no such image")] * 10)
    assert state(store, clock) is BreakerState.CLOSED
    fail(cloud, driver, *[TransientError("timeout")] * (FAILURES - 1), PermanentError("it answered"))
    fail(cloud, driver, *[TransientError("timeout")] * (FAILURES - 1))
    assert state(store, clock) is BreakerState.CLOSED


def test_processes_share_a_breaker_and_kinds_of_calls_do_not(
    cloud: MemoryCloud, store: MemoryStore, clock: ManualClock, watch: Callable[..., WatchedDriver]
) -> None:
    break_it(cloud, watch())
    calls_before = len(cloud.fail_list)
    cloud.fail_list.append(TransientError("never asked for"))
    with pytest.raises(CallsPaused):
        watch().list()
    assert len(cloud.fail_list) == calls_before + 1
    watch().destroy("env-1")
    assert state(store, clock, Call.DESTROY) is BreakerState.CLOSED


def test_the_answer_to_the_probe_closes_it_whatever_it_is(
    cloud: MemoryCloud, store: MemoryStore, clock: ManualClock, watch: Callable[..., WatchedDriver]
) -> None:
    break_it(cloud, watch())
    clock.sleep(PAUSE_S)
    fail(cloud, watch(), PermanentError("bad credentials"))
    assert state(store, clock) is BreakerState.CLOSED


def test_of_many_callers_one_probes(
    store: MemoryStore, clock: ManualClock, cloud: MemoryCloud, watch: Callable[..., WatchedDriver]
) -> None:
    break_it(cloud, watch())
    clock.sleep(PAUSE_S)
    begun: list[int] = []
    refused = threading.Semaphore(0)

    class Slow(MemoryDriver):
        def list(self) -> Listing:
            begun.append(threading.get_ident())
            for _ in range(7):
                refused.acquire(timeout=5)
            return super().list()

    def call(_: int) -> bool:
        try:
            WatchedDriver("lab", Slow(cloud, "ours"), Books(store), clock).list()
        except CallsPaused:
            refused.release()
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(call, range(8)))
    assert (len(begun), answers.count(True)) == (1, 1)
    assert state(store, clock) is BreakerState.CLOSED


def test_a_probe_whose_caller_died_is_followed_by_another(
    cloud: MemoryCloud, clock: ManualClock, store: MemoryStore, watch: Callable[..., WatchedDriver]
) -> None:
    break_it(cloud, watch())
    clock.sleep(PAUSE_S)
    Breakers(Books(store), clock).admit("lab", Call.LIST)
    with pytest.raises(CallsPaused, match="list calls wait for the one that probes") as told:
        watch().list()
    clock.sleep(told.value.until - clock.now())
    watch().list()
    assert state(store, clock) is BreakerState.CLOSED


def test_a_limit_of_calls_holds_for_all_processes_and_says_when_the_next_may_go(
    clock: ManualClock, watch: Callable[..., WatchedDriver]
) -> None:
    for _ in range(2):
        watch(calls_per_s=2.0).destroy("env-1")
    with pytest.raises(CallsPaused, match="provider lab: its limit of 2 calls/s is reached") as told:
        watch(calls_per_s=2.0).destroy("env-1")
    clock.sleep(told.value.until - clock.now())
    watch(calls_per_s=2.0).destroy("env-1")


def test_listing_leaves_a_call_to_those_who_have_something_to_do(watch: Callable[..., WatchedDriver]) -> None:
    watch(calls_per_s=0.5).list()
    with pytest.raises(CallsPaused, match=r"its limit of 0\.5 calls/s is reached"):
        watch(calls_per_s=0.5).list()
    watch(calls_per_s=0.5).destroy("env-1")


def test_what_a_breaker_stops_uses_up_no_call(
    cloud: MemoryCloud, clock: ManualClock, watch: Callable[..., WatchedDriver]
) -> None:
    break_it(cloud, watch())
    for _ in range(5):
        with pytest.raises(CallsPaused, match="paused until"):
            watch(calls_per_s=1.0).list()
    watch(calls_per_s=1.0).destroy("env-1")


def test_deletions_beyond_the_limit_wait_and_a_dead_one_frees_its_slot(
    cloud: MemoryCloud, clock: ManualClock, store: MemoryStore, watch: Callable[..., WatchedDriver]
) -> None:
    inner: list[str] = []

    class Nested(MemoryDriver):
        def destroy(self, environment_id: str, nodes: object = None) -> None:
            if environment_id == "env-1":
                with pytest.raises(CallsPaused, match="its limit of deletions at a time"):
                    watch(max_deletes=1).destroy("env-2")
            inner.append(environment_id)

    WatchedDriver("lab", Nested(cloud, "ours"), Books(store), clock, CallLimits(max_deletes=1)).destroy("env-1")
    assert inner == ["env-1"]
    watch(max_deletes=1).destroy("env-2")
    books = Books(store)
    version = books.slots.get("lab").version
    books.commit(books.slots.kind.put("lab", Slots({"env-dead": clock.now() + SLOT_S}), version))
    with pytest.raises(CallsPaused):
        watch(max_deletes=1).destroy("env-3")
    clock.sleep(SLOT_S)
    watch(max_deletes=1).destroy("env-3")
    cloud.fail_destroy.append(TransientError("away"))
    with pytest.raises(TransientError):
        watch(max_deletes=1).destroy("env-4")
    watch(max_deletes=1).destroy("env-5")


def test_without_limits_nothing_is_written_for_a_call(store: MemoryStore, watch: Callable[..., WatchedDriver]) -> None:
    watch().list()
    watch().destroy("env-1")
    books = Books(store)
    assert books.buckets.find("lab") is None
    assert books.slots.find("lab") is None
    assert books.breakers.find("lab.list") is None
