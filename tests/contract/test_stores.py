"""The ports of the store, kept by the memory twin and by Redis."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import redis.asyncio
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.stores.memory import AsyncMemoryStore, MemoryStore
from pipeline.adapters.stores.redis import AsyncRedisStore, RedisStore
from pipeline.domain.errors import Fenced, PermanentError, TransientError, VersionConflict
from pipeline.ports.stores import AsyncStore, Commit, Delete, Event, Fence, JobRequest, Put, Store
from tests.plugins.redis_server import RedisServer

#: What a lock or a beat is given where the test waits for its end.
SHORT_S = 0.15


@dataclass(frozen=True)
class Subject:
    """A store with what belongs to it."""

    store: MemoryStore | RedisStore
    url: str = ""

    @asynccontextmanager
    async def opened_async(self) -> AsyncIterator[AsyncStore]:
        if isinstance(self.store, MemoryStore):
            yield AsyncMemoryStore(self.store)
            return
        async with redis.asyncio.Redis.from_url(self.url) as client:
            yield AsyncRedisStore(client)


@pytest.fixture(params=["memory", "redis"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        yield Subject(MemoryStore(SystemClock()))
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    with server.client() as client:
        yield Subject(RedisStore(client), server.url)


@pytest.fixture
def store(subject: Subject) -> MemoryStore | RedisStore:
    return subject.store


def put(id: str, expected: int = 0, body: dict[str, Any] | None = None, **more: Any) -> Put:
    return Put("thing", id, expected, body if body is not None else {"n": expected}, **more)


def write(store: Store, *writes: Put | Delete, **more: Any) -> None:
    store.commit(Commit(writes, **more))


# Documents


def test_what_was_written_is_read_as_it_was(store: Store) -> None:
    body = {"text": 'grün \u2028 "quoted"\n', "list": [1, 2.5, None, True], "empty": {}, "deep": {"a": [{}]}}
    write(store, put("a", body=body))
    found = store.get("thing", "a")
    assert found is not None
    assert (found.kind, found.id, found.version, found.body) == ("thing", "a", 1, body)


def test_what_is_not_there_is_none(store: Store) -> None:
    write(store, put("a"))
    assert store.get("thing", "b") is None
    assert store.get("other", "a") is None


def test_versions_count_from_one(store: Store) -> None:
    for expected in range(3):
        write(store, put("a", expected))
    found = store.get("thing", "a")
    assert found is not None
    assert found.version == 3


@pytest.mark.parametrize("expected", [0, 1, 3])
def test_another_version_is_a_conflict(store: Store, expected: int) -> None:
    write(store, put("a", 0))
    write(store, put("a", 1))
    with pytest.raises(VersionConflict, match="thing a is at version 2"):
        write(store, put("a", expected))
    with pytest.raises(VersionConflict):
        write(store, Delete("thing", "a", expected))


def test_events_go_with_what_was_deleted(store: Store) -> None:
    write(store, put("a"), put("b"), events=(Event("a", "made", 1.0), Event("b", "made", 1.0)))
    write(store, Delete("thing", "a", 1))
    assert store.events("a") == []
    assert [event.type for event in store.events("b")] == ["made"]


def test_what_was_deleted_may_be_made_again(store: Store) -> None:
    write(store, put("a", indexes={"all": 1}))
    write(store, Delete("thing", "a", 1))
    assert store.get("thing", "a") is None
    assert store.index("all") == []
    write(store, put("a"))
    found = store.get("thing", "a")
    assert found is not None
    assert found.version == 1


def test_many_come_in_the_order_asked_for(store: Store) -> None:
    write(store, put("a"), put("b"), put("c"))
    assert [document.id for document in store.get_many("thing", ["c", "none", "a"])] == ["c", "a"]
    assert list(store.get_many("thing", [])) == []


def test_versions_are_told_without_the_documents(store: Store) -> None:
    write(store, put("a"), put("b"))
    write(store, put("b", 1))
    assert store.versions("thing", ["b", "none", "a"]) == {"a": 1, "b": 2}
    assert store.versions("thing", []) == {}


def test_a_conflict_writes_nothing_at_all(store: MemoryStore | RedisStore) -> None:
    write(store, put("old", indexes={"all": 1}))
    with pytest.raises(VersionConflict):
        write(
            store,
            put("new", indexes={"all": 2}),
            put("old", 0, indexes={"other": 3}),
            events=(Event("new", "made", 1.0),),
            jobs=(JobRequest("job", "work", "task"),),
        )
    assert store.get("thing", "new") is None
    assert store.index("all") == ["old"]
    assert store.index("other") == []
    assert list(store.events("new")) == []
    assert list(store.peek(10)) == []


def test_a_commit_without_writes_only_tells(store: MemoryStore | RedisStore) -> None:
    write(store, events=(Event("s", "x", 1.0),), jobs=(JobRequest("job", "work", "task"),))
    assert [event.type for event in store.events("s")] == ["x"]
    assert [job.id for job in store.peek(10)] == ["job"]


def test_of_writers_at_once_exactly_one_wins_each_version(store: Store) -> None:
    write(store, put("a", body={"n": 0}))
    wins: list[int] = []

    def count() -> None:
        for _ in range(20):
            found = store.get("thing", "a")
            assert found is not None
            try:
                write(store, put("a", found.version, body={"n": found.body["n"] + 1}))
            except VersionConflict:
                continue
            wins.append(1)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = store.get("thing", "a")
    assert found is not None
    assert found.body["n"] == len(wins) == found.version - 1


# Time to live


def test_what_has_its_time_is_forgotten(store: Store) -> None:
    write(store, put("short", ttl_s=1), put("long", ttl_s=100), put("ever"))
    threading.Event().wait(1.1)
    assert [document.id for document in store.get_many("thing", ["short", "long", "ever"])] == ["long", "ever"]
    write(store, put("short"))


def test_a_write_without_time_to_live_stays(store: Store) -> None:
    write(store, put("a", ttl_s=1))
    write(store, put("a", 1))
    threading.Event().wait(1.1)
    assert store.get("thing", "a") is not None


# Index sets


def test_index_sets_are_in_order_of_score_then_id(store: Store) -> None:
    write(store, put("b", indexes={"all": 5}), put("c", indexes={"all": 1.5}), put("a", indexes={"all": 5}))
    assert store.index("all") == ["c", "a", "b"]
    assert store.index("all", newest_first=True) == ["b", "a", "c"]
    assert store.index("all", limit=1, offset=1) == ["a"]
    assert store.index("all", limit=2, offset=1, newest_first=True) == ["a", "c"]
    assert store.index("all", offset=3) == []
    assert store.index("none") == []
    assert (store.count("all"), store.count("none")) == (3, 0)


def test_a_write_moves_between_index_sets(store: Store) -> None:
    write(store, put("a", indexes={"all": 1, "new": 1}))
    write(store, put("a", 1, indexes={"all": 2, "old": 7}))
    assert (store.index("all"), store.index("new"), store.index("old")) == (["a"], [], ["a"])
    assert store.index_upto("all", 1) == []
    write(store, put("a", 2))
    assert [store.count(name) for name in ("all", "new", "old")] == [0, 0, 0]


def test_index_upto_takes_the_score_itself(store: Store) -> None:
    write(store, *(put(f"{n}", indexes={"due": 1_700_000_000.25 + n}) for n in range(4)))
    assert store.index_upto("due", 1_700_000_002.25) == ["0", "1", "2"]
    assert store.index_upto("due", 1_700_000_002.25, limit=2) == ["0", "1"]
    assert store.index_upto("due", 1_700_000_000.0) == []


def test_scores_of_ranks_and_times_keep_their_order(store: Store) -> None:
    scores = {"a": 1.7e9 + 0.001, "b": 1.7e9 + 0.002, "c": 1e11 + 1.7e9 + 0.001, "d": 2e11 + 1.7e9 + 0.002}
    write(store, *(put(id, indexes={"pending": score}) for id, score in scores.items()))
    assert store.index("pending") == ["a", "b", "c", "d"]


# Events


def test_events_come_in_order_after_a_position(store: Store) -> None:
    for number in range(12):
        write(store, events=(Event("s", f"t{number}", float(number), {"n": number}), Event("other", "x", 0.0)))
    found = store.events("s")
    assert [event.type for event in found] == [f"t{number}" for number in range(12)]
    assert [event.data for event in found[:2]] == [{"n": 0}, {"n": 1}]
    assert found[3].at == 3.0
    assert [event.type for event in store.events("s", after=found[9].position)] == ["t10", "t11"]
    assert [event.type for event in store.events("s", limit=2)] == ["t0", "t1"]
    assert list(store.events("nobody")) == []


def test_the_events_of_what_was_deleted_are_forgotten(store: Store) -> None:
    write(store, put("a"), events=(Event("a", "made", 1.0), Event("b", "seen", 1.0)))
    write(store, Delete("thing", "a", 1))
    assert list(store.events("a")) == []
    assert [event.type for event in store.events("b")] == ["seen"]
    write(store, put("a"), events=(Event("a", "made again", 2.0),))
    assert [event.type for event in store.events("a")] == ["made again"]


def test_several_events_of_one_commit_keep_their_order(store: Store) -> None:
    write(store, events=tuple(Event("s", f"t{number}", 1.0) for number in range(5)))
    found = store.events("s")
    assert [event.type for event in found] == [f"t{number}" for number in range(5)]
    assert len({event.position for event in found}) == 5


async def _first(events: AsyncIterator[Event], count: int) -> list[str]:
    found: list[str] = []
    async for event in events:
        found.append(event.type)
        if len(found) == count:
            break
    return found


async def test_following_gives_old_events_then_new_ones(subject: Subject) -> None:
    write(subject.store, events=(Event("s", "one", 1.0), Event("s", "two", 1.0)))
    after = subject.store.events("s")[0].position
    async with subject.opened_async() as store, asyncio.timeout(10):
        following = asyncio.create_task(_first(store.follow("s"), 4))
        from_second = asyncio.create_task(_first(store.follow("s", after=after), 3))
        await asyncio.sleep(0.05)
        write(subject.store, events=(Event("s", "three", 1.0),))
        write(subject.store, events=(Event("t", "strange", 1.0), Event("s", "four", 1.0)))
        assert await following == ["one", "two", "three", "four"]
        assert await from_second == ["two", "three", "four"]


async def test_the_async_store_is_the_same_store(subject: Subject) -> None:
    async with subject.opened_async() as store:
        await store.commit(Commit((put("a", indexes={"all": 1}),), jobs=(JobRequest("j", "q", "t"),)))
        assert subject.store.index("all") == ["a"]
        assert [job.id for job in subject.store.peek(5)] == ["j"]
        with pytest.raises(VersionConflict):
            await store.commit(Commit((put("a"),)))
        found = await store.get("thing", "a")
        assert found is not None
        assert found == subject.store.get("thing", "a")
        assert await store.get("thing", "b") is None


# The outbox


def office(store: MemoryStore | RedisStore) -> Fence:
    fence = store.acquire("tick", "me", 60)
    assert fence is not None
    return fence


def test_the_outbox_keeps_order_until_it_is_dropped(store: MemoryStore | RedisStore) -> None:
    fence = office(store)
    wanted = [JobRequest(f"job-{n}", "work", "task", ("a b", "ü", str(n))) for n in range(5)]
    write(store, jobs=tuple(wanted[:3]))
    write(store, jobs=tuple(wanted[3:]))
    assert list(store.peek(2)) == wanted[:2]
    assert list(store.peek(100)) == wanted
    store.drop(2, fence)
    assert list(store.peek(100)) == wanted[2:]


def test_a_drop_that_is_done_twice_removes_no_others(redis_server: RedisServer) -> None:
    """A client does a call again whose answer was lost; nothing lies between the twin and its caller."""
    with redis_server.client() as client:
        store = RedisStore(client)
        fence = office(store)
        write(store, jobs=tuple(JobRequest(f"job-{n}", "work", "task") for n in range(4)))
        store.peek(2)
        store.drop(2, fence)
        store.drop(2, fence)
        assert [job.id for job in store.peek(5)] == ["job-2", "job-3"]


def test_only_the_leader_drops(store: MemoryStore | RedisStore) -> None:
    fence = office(store)
    write(store, jobs=(JobRequest("job", "work", "task"),))
    with pytest.raises(Fenced):
        store.drop(1, Fence("tick", fence.epoch - 1))
    with pytest.raises(Fenced):
        store.drop(1, Fence("another", fence.epoch))
    assert [job.id for job in store.peek(5)] == ["job"]


def test_waiting_ends_when_a_request_is_there(store: MemoryStore | RedisStore) -> None:
    waiter = threading.Thread(target=store.wait, args=(9.0,), daemon=True)
    waiter.start()
    write(store, jobs=(JobRequest("job", "work", "task"),))
    waiter.join(5)
    assert not waiter.is_alive()
    store.wait(9.0)


def test_waiting_ends_after_its_time(store: MemoryStore | RedisStore) -> None:
    waiter = threading.Thread(target=store.wait, args=(0.05,))
    waiter.start()
    waiter.join(10)
    assert not waiter.is_alive()


# Leadership and fences


def test_one_holds_an_office(store: MemoryStore | RedisStore) -> None:
    fence = office(store)
    assert store.acquire("tick", "you", 60) is None
    assert store.acquire("tick", "me", 60) is None
    assert store.acquire("another", "you", 60) is not None
    assert store.renew(fence, "me", 60)
    assert not store.renew(fence, "you", 60)


def test_an_office_that_was_given_back_is_free_at_once(store: MemoryStore | RedisStore) -> None:
    fence = office(store)
    store.release(fence, "you")
    assert store.acquire("tick", "you", 60) is None
    store.release(fence, "me")
    next_fence = store.acquire("tick", "you", 60)
    assert next_fence is not None
    assert next_fence.epoch > fence.epoch


def test_an_office_that_was_not_renewed_falls(store: MemoryStore | RedisStore) -> None:
    fence = store.acquire("tick", "me", SHORT_S)
    assert fence is not None
    threading.Event().wait(SHORT_S + 0.05)
    assert not store.renew(fence, "me", 60)
    assert store.acquire("tick", "you", 60) is not None


def test_an_old_epoch_can_write_nothing(store: MemoryStore | RedisStore) -> None:
    fence = office(store)
    write(store, put("a"), fence=fence)
    store.release(fence, "me")
    write(store, put("b"), fence=fence)  # nobody else has taken the office
    newer = store.acquire("tick", "you", 60)
    assert newer is not None
    with pytest.raises(Fenced):
        write(store, put("c"), events=(Event("c", "x", 1.0),), jobs=(JobRequest("j", "q", "t"),), fence=fence)
    assert store.get("thing", "c") is None
    assert list(store.events("c")) == []
    assert list(store.peek(5)) == []
    write(store, put("c"), fence=newer)


# Signs of life


def test_beats_stand_for_their_time(store: Store) -> None:
    store.beat("short", SHORT_S)
    store.beat("long", 60)
    store.beat("renewed", SHORT_S)
    store.beat("renewed", 60)
    assert list(store.alive(["short", "none", "long"])) == [True, False, True]
    threading.Event().wait(SHORT_S + 0.05)
    assert list(store.alive(["short", "long", "renewed"])) == [False, True, True]
    assert list(store.alive([])) == []


# What goes wrong


def test_a_store_that_is_down_says_so(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = subject.store
    if isinstance(store, MemoryStore):
        store.down = True
    else:
        nowhere = str(tmp_path_factory.mktemp("no") / "redis.sock")
        store = RedisStore(redis.Redis(unix_socket_path=nowhere, retry=Retry(NoBackoff(), 0)))
    calls: list[Callable[[], object]] = [
        lambda: store.get("thing", "a"),
        lambda: store.get_many("thing", ["a"]),
        lambda: store.versions("thing", ["a"]),
        lambda: write(store, put("a")),
        lambda: store.index("all"),
        lambda: store.index_upto("all", 1),
        lambda: store.count("all"),
        lambda: store.events("s"),
        lambda: store.beat("t", 1),
        lambda: store.alive(["t"]),
        lambda: store.peek(1),
        lambda: store.wait(0.01),
        lambda: store.acquire("tick", "me", 1),
        lambda: store.renew(Fence("tick", 1), "me", 1),
        lambda: store.drop(1, Fence("tick", 1)),
    ]
    for call in calls:
        with pytest.raises(TransientError, match="does not answer"):
            call()


@pytest.mark.parametrize(
    ("options", "durable"),
    [
        (("--appendonly", "yes", "--appendfsync", "always"), True),
        (("--appendonly", "yes", "--appendfsync", "everysec"), False),
        (("--appendonly", "no", "--appendfsync", "always"), False),
    ],
)
def test_a_redis_that_would_lose_data_is_refused(
    redis_session: RedisServer, tmp_path: Any, options: tuple[str, ...], durable: bool
) -> None:
    server = RedisServer(tmp_path, options)
    server.start()
    try:
        with server.client() as client:
            if durable:
                RedisStore(client).check_durable()
            else:
                with pytest.raises(PermanentError, match="appendfsync always"):
                    RedisStore(client).check_durable()
    finally:
        server.stop()


def test_what_was_answered_survives_a_kill(redis_session: RedisServer, tmp_path: Any) -> None:
    server = RedisServer(tmp_path)
    server.start()
    with server.client() as client:
        write(RedisStore(client), put("a", indexes={"all": 1}), jobs=(JobRequest("j", "q", "t"),))
    server.stop()
    server.start()
    try:
        with server.client() as client:
            store = RedisStore(client)
            assert store.get("thing", "a") is not None
            assert store.index("all") == ["a"]
            assert [job.id for job in store.peek(5)] == ["j"]
    finally:
        server.stop()
