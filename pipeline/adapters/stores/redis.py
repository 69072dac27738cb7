"""The store in Redis: documents as versioned JSON, every change through `commit.lua`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, cast

import redis
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from pipeline.domain.errors import Fenced, PermanentError, TransientError, VersionConflict
from pipeline.ports.stores import Commit, Delete, Document, Event, Fence, JobRequest, Put

PREFIX = "greenroom:"
OUTBOX = PREFIX + "outbox"


@cache
def _script_text() -> str:
    return files("pipeline.adapters.stores").joinpath("commit.lua").read_text()


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError) as error:
        raise TransientError(f"the store does not answer: {error}; check that Redis runs") from error
    except RedisError as error:
        raise PermanentError(f"the store refused: {error}") from error


def _write_words(write: Put | Delete) -> list[str | int | float]:
    if isinstance(write, Delete):
        return ["delete", write.kind, write.id, write.expected, "", "", 0]
    body = json.dumps(write.body, separators=(",", ":"))
    ttl = "" if write.ttl_s is None else write.ttl_s
    words: list[str | int | float] = ["put", write.kind, write.id, write.expected, body, ttl, len(write.indexes)]
    for name, score in write.indexes.items():
        words += [name, score]
    return words


def _words(commit: Commit) -> list[str | int | float]:
    fence = commit.fence
    words: list[str | int | float] = [PREFIX, fence.office if fence else "", fence.epoch if fence else ""]
    words.append(len(commit.writes))
    for write in commit.writes:
        words += _write_words(write)
    words.append(len(commit.events))
    for event in commit.events:
        words += [event.subject, event.type, event.at, json.dumps(event.data, separators=(",", ":"))]
    words.append(len(commit.jobs))
    words += [_job_text(job) for job in commit.jobs]
    return words


def _job_text(job: JobRequest) -> str:
    return json.dumps([job.id, job.queue, job.task, list(job.args)], separators=(",", ":"))


def _judge(answer: bytes) -> None:
    if answer == b"ok":
        return
    if answer == b"fenced":
        raise Fenced("the office was taken by another process")
    _, kind, id, version = answer.decode().split(" ", 3)
    raise VersionConflict(f"{kind} {id} is at version {version} now")


def _document(kind: str, id: str, fields: Sequence[bytes | None]) -> Document | None:
    version, body = fields
    if version is None or body is None:
        return None
    return Document(kind, id, int(version), body.decode())


def _event(subject: str, position: bytes, fields: dict[bytes, bytes]) -> Event:
    data = json.loads(fields[b"data"])
    return Event(subject, fields[b"type"].decode(), float(fields[b"at"]), data, position.decode())


def _doc_key(kind: str, id: str) -> str:
    return f"{PREFIX}doc:{kind}:{id}"


class RedisStore:
    """`Store`, `Outbox` and `Leadership` over one client."""

    def __init__(self, client: redis.Redis) -> None:
        # redis-py types every answer as sync-or-async, which no annotation here could narrow
        self._redis: Any = client
        self._commit = client.register_script(_script_text())
        self._drop = client.register_script(DROP)
        self._acquire = client.register_script(ACQUIRE)
        self._renew = client.register_script(RENEW)
        self._peeked: list[bytes] = []

    def check_durable(self) -> None:
        """PermanentError when this Redis could lose an answered write."""
        with _wrapped():
            config = self._redis.config_get("append*")
        if config.get("appendonly") != "yes" or config.get("appendfsync") != "always":
            raise PermanentError(
                "this Redis may lose answered writes: set `appendonly yes` and `appendfsync always`, "
                "or allow it with GREENROOM_ALLOW_LOSSY_STORE=1"
            )

    def get(self, kind: str, id: str) -> Document | None:
        with _wrapped():
            return _document(kind, id, self._redis.hmget(_doc_key(kind, id), "version", "body"))

    def get_many(self, kind: str, ids: Sequence[str]) -> Sequence[Document]:
        with _wrapped():
            pipe = self._redis.pipeline(transaction=False)
            for id in ids:
                pipe.hmget(_doc_key(kind, id), "version", "body")
            found = (_document(kind, id, fields) for id, fields in zip(ids, pipe.execute(), strict=True))
            return [document for document in found if document is not None]

    def versions(self, kind: str, ids: Sequence[str]) -> Mapping[str, int]:
        with _wrapped():
            pipe = self._redis.pipeline(transaction=False)
            for id in ids:
                pipe.hget(_doc_key(kind, id), "version")
            return {id: int(version) for id, version in zip(ids, pipe.execute(), strict=True) if version is not None}

    def commit(self, commit: Commit) -> None:
        with _wrapped():
            answer = self._commit(args=_words(commit))
        _judge(cast("bytes", answer))

    def index(self, name: str, *, limit: int = 1000, offset: int = 0, newest_first: bool = False) -> Sequence[str]:
        with _wrapped():
            ids = self._redis.zrange(PREFIX + "index:" + name, offset, offset + limit - 1, desc=newest_first)
        return [id.decode() for id in ids]

    def index_upto(self, name: str, score: float, *, limit: int = 1000) -> Sequence[str]:
        with _wrapped():
            ids = self._redis.zrangebyscore(PREFIX + "index:" + name, "-inf", score, start=0, num=limit)
        return [id.decode() for id in ids]

    def count(self, name: str) -> int:
        with _wrapped():
            return int(self._redis.zcard(PREFIX + "index:" + name))

    def events(self, subject: str, *, after: str = "", limit: int = 1000) -> Sequence[Event]:
        start = f"({after}" if after else "-"
        with _wrapped():
            rows = self._redis.xrange(PREFIX + "events:" + subject, start, "+", count=limit)
        return [_event(subject, position, fields) for position, fields in rows]

    def beat(self, token: str, ttl_s: float) -> None:
        with _wrapped():
            self._redis.set(PREFIX + "beat:" + token, b"1", px=int(ttl_s * 1000))

    def alive(self, tokens: Sequence[str]) -> Sequence[bool]:
        if not tokens:
            return []
        with _wrapped():
            return [value is not None for value in self._redis.mget([PREFIX + "beat:" + token for token in tokens])]

    def wait(self, timeout_s: float) -> None:
        with _wrapped():
            self._redis.xread({OUTBOX: "0"}, count=1, block=max(1, int(timeout_s * 1000)))

    def peek(self, limit: int) -> Sequence[JobRequest]:
        with _wrapped():
            rows = self._redis.xrange(OUTBOX, "-", "+", count=limit)
        self._peeked = [position for position, _ in rows]
        words = (json.loads(fields[b"job"]) for _, fields in rows)
        return [JobRequest(id, queue, task, tuple(args)) for id, queue, task, args in words]

    def drop(self, count: int, fence: Fence) -> None:
        with _wrapped():
            answer = self._drop(args=[PREFIX, fence.office, fence.epoch, *self._peeked[:count]])
        _judge(cast("bytes", answer))

    def acquire(self, office: str, holder: str, ttl_s: float) -> Fence | None:
        with _wrapped():
            epoch = int(cast("int", self._acquire(args=[PREFIX, office, holder, int(ttl_s * 1000)])))
        return Fence(office, epoch) if epoch else None

    def leader(self, office: str) -> str | None:
        """Who holds an office now."""
        with _wrapped():
            holder = self._redis.get(PREFIX + "office:" + office)
        return None if holder is None else holder.decode()

    def renew(self, fence: Fence, holder: str, ttl_s: float) -> bool:
        with _wrapped():
            return bool(self._renew(args=[PREFIX, fence.office, holder, int(ttl_s * 1000)]))

    def release(self, fence: Fence, holder: str) -> None:
        self.renew(fence, holder, 0.0)


#: Remove requests of the outbox by their positions, if the office still stands: done twice, it removes no others.
DROP = """
if redis.call('GET', ARGV[1] .. 'epoch:' .. ARGV[2]) ~= ARGV[3] then return 'fenced' end
for i = 4, #ARGV do
  redis.call('XDEL', ARGV[1] .. 'outbox', ARGV[i])
end
return 'ok'
"""
#: Take a lock that is free and begin its next epoch, both or neither.
ACQUIRE = """
if not redis.call('SET', ARGV[1] .. 'office:' .. ARGV[2], ARGV[3], 'NX', 'PX', ARGV[4]) then return 0 end
return redis.call('INCR', ARGV[1] .. 'epoch:' .. ARGV[2])
"""
#: Prolong a lock that is still ours.
RENEW = """
local key = ARGV[1] .. 'office:' .. ARGV[2]
if redis.call('GET', key) ~= ARGV[3] then return 0 end
return redis.call('PEXPIRE', key, ARGV[4])
"""


class AsyncRedisStore:
    """`AsyncStore`: the same documents, without a thread."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._redis: Any = client
        self._commit = client.register_script(_script_text())

    async def get(self, kind: str, id: str) -> Document | None:
        with _wrapped():
            return _document(kind, id, await self._redis.hmget(_doc_key(kind, id), "version", "body"))

    async def commit(self, commit: Commit) -> None:
        with _wrapped():
            answer = await self._commit(args=_words(commit))
        _judge(answer)

    async def follow(self, subject: str, *, after: str = "") -> AsyncIterator[Event]:
        key, position = PREFIX + "events:" + subject, after or "0"
        while True:
            with _wrapped():
                answer = await self._redis.xread({key: position}, count=100, block=5000)
            for _, rows in answer or []:
                for row_position, fields in rows:
                    position = row_position.decode()
                    yield _event(subject, row_position, fields)
