"""`leases`: 500 environments with random times to live, 50 of them on real nodes: when each really ends.

A whole deployment is asked over HTTP. Some are extended, some held, some of those given back, some protected beyond
their time. When each is due is worked out here, from what was asked and when its nodes were in service; when its end
begins and when it is gone is seen in the books of the deployment. Real nodes are greeted just before they are due, and
that nothing is left of them is looked for at the end of all.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from pipeline.envs.warnings import ENDING
from tests.bench.figures import Figure, median, p99
from tests.tools import asking
from tests.tools.deployed import PROJECT, Deployed, running

SEED, COUNT, REAL = 20261127, 500, 50
#: A time to live, and by how much an extension, a hold or a protection moves the end, in seconds.
TTL_S, MORE_S = (12, 50), (5, 15)
#: Shares of those that are extended, held, held and then given back, protected; nothing is done with the others.
SHARES = (0.2, 0.15, 0.1, 0.05)
#: At which part of its time something is done with one.
WHEN = (0.1, 0.8)
#: So many are asked for at a time.
ASKING = 8
LOOK_S, GREETED_S, GREETING_S = 0.02, 1.0, 1.0
SSH = 22
#: What a moment may lose on its way through JSON; what an answer may take.
ROUNDING_S, WAY_S = 0.001, 2.0
PATIENCE_S = 170.0
#: More ends a minute than are usual: of its own accord Greenroom takes no more back than an operator allows.
ENDS = {"delete_budget": COUNT}
PROVIDERS: Mapping[str, Mapping[str, Any]] = {
    "local": {"driver": "local", "max_nodes": REAL, **ENDS},
    "memory": {"driver": "memory", "max_nodes": COUNT, "workers": 1, **ENDS},  # what a process has in memory is its own
}
BLUEPRINT = """\
version: 1
service: lease
environment:
  provider: {provider}
  image: debian-12
  roles: {{web: {{size: tiny}}}}
test: []
"""


class Wish(StrEnum):
    """What is done with an environment."""

    NOTHING = "nothing"
    EXTEND = "extend"
    HOLD = "hold"
    RELEASE = "release"
    PROTECT = "protect"


@dataclass
class Life:
    """One environment: what is asked of it, when it is due by that, and what was seen. Moments since the epoch.

    `ending` is when its end was seen to have begun, `told_at` when it began by its history.
    """

    provider: str
    ttl_s: int
    wish: Wish
    when: float
    more_s: int
    id: str = ""
    began: float = 0.0
    due: float = 0.0
    ending: float = 0.0
    gone: float = 0.0
    warned: bool = False
    told_at: float = 0.0
    broken: list[str] = field(default_factory=list)

    @property
    def early(self) -> bool:
        return min(self.ending, self.told_at) < self.due


def lives(dice: random.Random) -> Iterator[Life]:
    """What is asked for, in order."""
    nothing = 1 - sum(SHARES)
    for number in range(COUNT):
        (wish,) = dice.choices(list(Wish), (nothing, *SHARES))
        provider = "local" if number % (COUNT // REAL) == 0 else "memory"
        yield Life(provider, dice.randint(*TTL_S), wish, dice.uniform(*WHEN), dice.randint(*MORE_S))


def measure() -> Iterator[Figure]:
    all_ = list(lives(random.Random(SEED)))
    with running(provider=PROVIDERS["local"], more={"providers": PROVIDERS}) as up:
        up("project", "add", PROJECT)
        asyncio.run(_play(up, all_))
        for one in all_:
            _read(up, one)
    yield from _figures(all_)


def _read(up: Deployed, one: Life) -> None:
    """What its history says of its end."""
    at = {event.type: event.at for event in up.app.store.events(one.id)}
    one.told_at, one.warned = at["environment.destroying"], ENDING in at


def _figures(all_: Sequence[Life]) -> Iterator[Figure]:
    what = f"{COUNT} environments, {REAL} of them on local nodes, {TTL_S[0]} to {TTL_S[1]} s to live"
    by_time = [one for one in all_ if one.wish in {Wish.NOTHING, Wish.EXTEND, Wish.HOLD}]
    began = [one.ending - one.due for one in all_]
    gone = [one.gone - one.due for one in all_]
    real = [one.gone - one.due for one in all_ if one.provider == "local"]
    broken = [told for one in all_ for told in one.broken]
    asked = ", ".join(f"{sum(one.wish is wish for one in all_)} {wish}" for wish in Wish)
    yield Figure("leases_begun", max(began), "s", f"from due until its end begins, the latest; {what}", "< 5")
    yield Figure("leases_begun_p99", p99(began), "s", f"99 of 100 took less; median {median(began):.2f}")
    yield Figure("leases_gone", max(gone), "s", "from due until it is seen to be gone, the latest", "< 5")
    yield Figure("leases_gone_p99", p99(gone), "s", f"99 of 100 took less; median {median(gone):.2f}")
    yield Figure("leases_gone_real", max(real), "s", f"the latest on local nodes; median {median(real):.2f}", "< 5")
    yield Figure("leases_early", sum(one.early for one in all_), "environments", "ended before they were due", "0")
    unwarned = sum(not one.warned for one in by_time)
    yield Figure("leases_unwarned", unwarned, "environments", "whose time ended without a warning", "0")
    yield Figure("leases_unhonoured", len(broken), "wishes", "; ".join([asked, *broken[:5]]), "0")


async def _play(up: Deployed, all_: Sequence[Life]) -> None:
    with asking.client(up) as told:
        url, headers = told.base_url, told.headers
    kept = httpx.Limits(keepalive_expiry=1)  # before the service ends a connection on which nothing comes
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30, trust_env=False, limits=kept) as api:
        stage = _Stage(up, api)
        looking = asyncio.create_task(stage.look())
        try:
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                for one in all_:
                    group.create_task(stage.live(one))
        except TimeoutError:
            left = [one for one in all_ if not one.gone]
            raise AssertionError(f"{len(left)} are left after {PATIENCE_S} s: {left[:3]}\n{up.said()}") from None
        finally:
            looking.cancel()


class _Stage:
    """All environments, each living by itself, and what is seen of them."""

    def __init__(self, up: Deployed, api: httpx.AsyncClient) -> None:
        self._store = up.app.store
        self._api = api
        self._few = asyncio.Semaphore(ASKING)
        self._seen: dict[str, _Seen] = {}

    async def look(self) -> None:
        """Note of each when it is in use, when it is not any more, and when it is gone."""
        while True:
            used, gone = set(self._store.index("environments:ending")), set(self._store.index("environments:final"))
            now = time.time()
            for id, seen in self._seen.items():
                seen.note(now, used=id in used, gone=id in gone)
            await asyncio.sleep(LOOK_S)

    async def live(self, one: Life) -> None:
        """Ask for it, do with it what is to be done, and see it end."""
        async with self._few:
            new = {"project": PROJECT, "blueprint": BLUEPRINT.format(provider=one.provider), "ttl": f"{one.ttl_s}s"}
            one.id = (await self._api.post("/v1/environments", json=new)).raise_for_status().json()["id"]
        seen = self._seen[one.id] = _Seen()
        await seen.used
        shown = (await self._api.get(f"/v1/environments/{one.id}")).raise_for_status().json()
        one.began = shown["contract"]["ready_at"]
        one.due = one.began + one.ttl_s
        await _until(one.began + one.when * one.ttl_s)
        await self._do(one)
        if one.provider == "local" and one.due > time.time():
            await _until(one.due - GREETED_S)
            answers = await _answers(shown["nodes"][0]["address"])
            _expect(one, answers, f"it does not answer {GREETED_S:g} s before it is due")
        one.ending, one.gone = await seen.left, await seen.gone

    async def _do(self, one: Life) -> None:
        """What was wished for, and when it is due by that."""
        if one.wish is Wish.EXTEND:
            one.due += one.more_s
            await self._wish(one, "extend", {"by": f"{one.more_s}s"}, one.due)
        elif one.wish is Wish.HOLD:
            await self._hold(one)
        elif one.wish is Wish.RELEASE:
            await self._hold(one)
            await _until(time.time() + one.when * (one.due - time.time()))
            one.due = time.time()
            await self._wish(one, "release", {})
        elif one.wish is Wish.PROTECT:
            await self._wish(one, "protect", {"reason": "a bench"})
            await _until(one.due + one.more_s)
            one.due = time.time()
            await self._wish(one, "protect", {})

    async def _hold(self, one: Life) -> None:
        """Hold it beyond its end; the service's clock begins to count while it is asked."""
        asked_at = time.time()
        for_s = math.ceil(one.due - asked_at) + one.more_s
        one.due = asked_at + for_s
        one.due = await self._wish(one, "hold", {"for": f"{for_s}s", "reason": "a bench"}, one.due) or one.due

    async def _wish(self, one: Life, what: str, body: Mapping[str, str], due: float = 0.0) -> float | None:
        """Ask for something; when it is due by the answer, which must be `due` or, for the way there, a bit later."""
        answer = await self._api.post(f"/v1/environments/{one.id}/{what}", json=body)
        if not answer.is_success:
            _expect(one, False, f"{what}: {answer.status_code} {answer.text[:200]}")
            return None
        dies_at: float | None = answer.json()["contract"]["dies_at"]
        right = not due or (dies_at is not None and due - ROUNDING_S <= dies_at <= max(due, time.time()) + WAY_S)
        _expect(one, right, f"{what}: it is due at {due}, and the answer says {dies_at}")
        return dies_at


class _Seen:
    """The moments at which one was first seen to be in use, not to be so any more, and to be gone."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.used, self.left, self.gone = (loop.create_future() for _ in range(3))

    def note(self, now: float, *, used: bool, gone: bool) -> None:
        for future, is_so in ((self.used, used), (self.left, self.used.done() and not used), (self.gone, gone)):
            if is_so and not future.done():
                future.set_result(now)


def _expect(one: Life, right: bool, told: str) -> None:
    if not right:
        one.broken.append(f"{one.id}: {told}")


async def _until(moment: float) -> None:
    await asyncio.sleep(moment - time.time())


async def _answers(address: str) -> bool:
    """Whether the SSH server of a node takes a connection."""
    try:
        async with asyncio.timeout(GREETING_S):
            _, writer = await asyncio.open_connection(address, SSH)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
