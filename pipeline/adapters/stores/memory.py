"""The in-memory twin of the store."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from pipeline.domain.errors import Fenced, TransientError, VersionConflict
from pipeline.ports.common import Clock
from pipeline.ports.stores import Commit, Delete, Document, Event, Fence, JobRequest, Put

#: A wait looks this often, in seconds.
WAIT_SLICE_S = 0.01


class MemoryStore:
    """`Store`, `Outbox` and `Leadership` in one process.

    Knob: `down` makes every call raise TransientError.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._documents: dict[tuple[str, str], tuple[int, str, float]] = {}
        self._indexes: defaultdict[str, dict[str, float]] = defaultdict(dict)
        self._standing: dict[tuple[str, str], frozenset[str]] = {}
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._outbox: list[JobRequest] = []
        self._beats: dict[str, float] = {}
        self._offices: dict[str, tuple[str, float]] = {}
        self._epochs: defaultdict[str, int] = defaultdict(int)
        self.down = False

    def get(self, kind: str, id: str) -> Document | None:
        self._answer()
        with self._lock:
            version, text, ends = self._documents.get((kind, id), (0, "", 0.0))
        if version == 0 or ends < self._clock.now():
            return None
        return Document(kind, id, version, text)

    def get_many(self, kind: str, ids: Sequence[str]) -> Sequence[Document]:
        found = (self.get(kind, id) for id in ids)
        return [document for document in found if document is not None]

    def versions(self, kind: str, ids: Sequence[str]) -> Mapping[str, int]:
        return {document.id: document.version for document in self.get_many(kind, ids)}

    def commit(self, commit: Commit) -> None:
        self._answer()
        with self._lock:
            self._check_fence(commit.fence)
            for write in commit.writes:
                self._check_version(write)
            for write in commit.writes:
                self._write(write)
            for event in commit.events:
                self._append(event)
            self._outbox += commit.jobs

    def index(self, name: str, *, limit: int = 1000, offset: int = 0, newest_first: bool = False) -> Sequence[str]:
        ids = self._ordered(name)
        return (ids[::-1] if newest_first else ids)[offset : offset + limit]

    def index_upto(self, name: str, score: float, *, limit: int = 1000) -> Sequence[str]:
        scores = self._indexes[name]
        return [id for id in self._ordered(name) if scores[id] <= score][:limit]

    def count(self, name: str) -> int:
        self._answer()
        return len(self._indexes[name])

    def events(self, subject: str, *, after: str = "", limit: int = 1000) -> Sequence[Event]:
        self._answer()
        return [event for event in self._events[subject] if event.position > after][:limit]

    def beat(self, token: str, ttl_s: float) -> None:
        self._answer()
        self._beats[token] = self._clock.now() + ttl_s

    def alive(self, tokens: Sequence[str]) -> Sequence[bool]:
        self._answer()
        return [self._beats.get(token, 0.0) > self._clock.now() for token in tokens]

    def wait(self, timeout_s: float) -> None:
        end = self._clock.now() + timeout_s
        self._answer()
        while not self._outbox and self._clock.now() < end:
            self._clock.sleep(min(WAIT_SLICE_S, timeout_s))

    def peek(self, limit: int) -> Sequence[JobRequest]:
        self._answer()
        return tuple(self._outbox[:limit])

    def drop(self, count: int, fence: Fence) -> None:
        self._answer()
        with self._lock:
            self._check_fence(fence)
            del self._outbox[:count]

    def acquire(self, office: str, holder: str, ttl_s: float) -> Fence | None:
        self._answer()
        with self._lock:
            if self._offices.get(office, ("", 0.0))[1] > self._clock.now():
                return None
            self._offices[office] = (holder, self._clock.now() + ttl_s)
            self._epochs[office] += 1
            return Fence(office, self._epochs[office])

    def renew(self, fence: Fence, holder: str, ttl_s: float) -> bool:
        self._answer()
        with self._lock:
            owner, ends = self._offices.get(fence.office, ("", 0.0))
            if owner != holder or ends <= self._clock.now():
                return False
            self._offices[fence.office] = (holder, self._clock.now() + ttl_s)
            return True

    def release(self, fence: Fence, holder: str) -> None:
        self.renew(fence, holder, 0.0)

    def _answer(self) -> None:
        if self.down:
            raise TransientError("the store does not answer: it was told to be down")

    def _check_fence(self, fence: Fence | None) -> None:
        if fence is not None and self._epochs[fence.office] != fence.epoch:
            raise Fenced("the office was taken by another process")

    def _check_version(self, write: Put | Delete) -> None:
        document = self.get(write.kind, write.id)
        version = document.version if document else 0
        if version != write.expected:
            raise VersionConflict(f"{write.kind} {write.id} is at version {version} now")

    def _write(self, write: Put | Delete) -> None:
        kept = write.indexes if isinstance(write, Put) else {}
        for name in self._standing.pop((write.kind, write.id), frozenset()) - kept.keys():
            del self._indexes[name][write.id]
        for name, score in kept.items():
            self._indexes[name][write.id] = score
        self._standing[write.kind, write.id] = frozenset(kept)
        if isinstance(write, Delete):
            self._documents.pop((write.kind, write.id), None)
            self._events.pop(write.id, None)
            return
        ends = float("inf") if write.ttl_s is None else self._clock.now() + write.ttl_s
        self._documents[write.kind, write.id] = (write.expected + 1, json.dumps(write.body), ends)

    def _append(self, event: Event) -> None:
        position = f"{len(self._events[event.subject]) + 1:012d}-0"
        self._events[event.subject].append(replace(event, position=position))

    def _ordered(self, name: str) -> list[str]:
        self._answer()
        return [id for _, id in sorted((score, id) for id, score in self._indexes[name].items())]


class AsyncMemoryStore:
    """`AsyncStore` over the same memory."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store

    async def get(self, kind: str, id: str) -> Document | None:
        return self._store.get(kind, id)

    async def commit(self, commit: Commit) -> None:
        self._store.commit(commit)

    async def follow(self, subject: str, *, after: str = "") -> AsyncIterator[Event]:
        position = after
        while True:
            for event in self._store.events(subject, after=position):
                position = event.position
                yield event
            await asyncio.sleep(0.01)
