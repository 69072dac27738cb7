"""The store: versioned JSON documents, index sets, events and job requests behind one atomic write."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Document:
    """One aggregate as stored, as JSON; `version` counts its writes from 1."""

    kind: str
    id: str
    version: int
    text: str

    @property
    def body(self) -> Body:
        """What the text says, read anew each time: nobody shares it."""
        body: Body = json.loads(self.text)
        return body


@dataclass(frozen=True)
class Put:
    """Write of one document.

    `expected` is the version that was read, 0 to create. `indexes` maps the name of each index set in which the
    document stands from now on to its score there; it leaves all others. `ttl_s`: forgotten after so many seconds.
    """

    kind: str
    id: str
    expected: int
    body: Body
    indexes: Mapping[str, float] = field(default_factory=dict)
    ttl_s: int | None = None


@dataclass(frozen=True)
class Delete:
    """Removal of one document, its index entries and the events of its id."""

    kind: str
    id: str
    expected: int


@dataclass(frozen=True)
class Event:
    """What happened to a subject; `position` is set by the store."""

    subject: str
    type: str
    at: float
    data: Body = field(default_factory=dict)
    position: str = ""


@dataclass(frozen=True)
class JobRequest:
    """A job to hand to the queue once the write stands: `task` is a name of `workers.tasks`, `queue` a queue's.

    `id` says which work it is: while a job of that id waits, another is not added.
    """

    id: str
    queue: str
    task: str
    args: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fence:
    """The office a writer must still hold, and the epoch in which it took it."""

    office: str
    epoch: int


@dataclass(frozen=True)
class Commit:
    """One atomic write: all of it or nothing."""

    writes: tuple[Put | Delete, ...] = ()
    events: tuple[Event, ...] = ()
    jobs: tuple[JobRequest, ...] = ()
    fence: Fence | None = None


class Store(Protocol):
    """Any number of callers at once. TransientError when the store does not answer."""

    def get(self, kind: str, id: str) -> Document | None:
        """One document."""

    def get_many(self, kind: str, ids: Sequence[str]) -> Sequence[Document]:
        """Those that exist, in the order asked for."""

    def versions(self, kind: str, ids: Sequence[str]) -> Mapping[str, int]:
        """The versions of those that exist; much cheaper than the documents."""

    def commit(self, commit: Commit) -> None:
        """Write. VersionConflict when a version is not the expected one, Fenced when the fence fell."""

    def index(self, name: str, *, limit: int = 1000, offset: int = 0, newest_first: bool = False) -> Sequence[str]:
        """Ids in an index set by score."""

    def index_upto(self, name: str, score: float, *, limit: int = 1000) -> Sequence[str]:
        """Ids in an index set whose score is at most `score`, lowest first."""

    def count(self, name: str) -> int:
        """How many ids stand in an index set."""

    def events(self, subject: str, *, after: str = "", limit: int = 1000) -> Sequence[Event]:
        """Events of a subject after a position, oldest first."""

    def beat(self, token: str, ttl_s: float) -> None:
        """Note that the holder of `token` is alive for the next `ttl_s` seconds."""

    def alive(self, tokens: Sequence[str]) -> Sequence[bool]:
        """Whether each token's last beat still stands."""


class Outbox(Protocol):
    """Job requests of commits, in order, for the one leader that hands them to the queue."""

    def wait(self, timeout_s: float) -> None:
        """Return when a request is there, or after the time."""

    def peek(self, limit: int) -> Sequence[JobRequest]:
        """The oldest requests; they stay."""

    def drop(self, count: int, fence: Fence) -> None:
        """Remove the oldest requests of the last `peek`; Fenced when the office is lost."""


class Leadership(Protocol):
    """One holder an office, by a lock that expires."""

    def acquire(self, office: str, holder: str, ttl_s: float) -> Fence | None:
        """Take the office if it is free, and a new epoch with it; None when another one holds it."""

    def renew(self, fence: Fence, holder: str, ttl_s: float) -> bool:
        """Keep it; False when it was lost."""

    def release(self, fence: Fence, holder: str) -> None:
        """Give it back early."""


class AsyncStore(Protocol):
    """The part of the store that intake and watchers use, without a thread."""

    async def get(self, kind: str, id: str) -> Document | None:
        """As `Store.get`."""

    async def commit(self, commit: Commit) -> None:
        """As `Store.commit`."""

    def follow(self, subject: str, *, after: str = "") -> AsyncIterator[Event]:
        """Events of a subject after a position, first the old ones, then each as it comes; never ends by itself."""
