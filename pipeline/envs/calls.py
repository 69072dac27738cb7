"""Every call to a provider's driver: counted by its breaker, and held to the provider's limits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pipeline.domain import breakers, limits
from pipeline.domain.breakers import Breaker, BreakerState, Call
from pipeline.domain.errors import CallsPaused, InfraError, TransientError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.limits import Bucket, Slots
from pipeline.domain.moments import time_of_day
from pipeline.envs.books import BREAKERS, BUCKETS, SLOTS, Books
from pipeline.ports.common import Clock
from pipeline.ports.drivers import Capabilities, Driver, EnvironmentRequest, Listing, NodeView

T = TypeVar("T")
#: A slot of a deletion falls to others after so many seconds: whoever had it died.
SLOT_S = 900.0
#: Whoever found no slot looks again after so many seconds.
SLOT_RETRY_S = 1.0


@dataclass(frozen=True)
class CallLimits:
    """What a provider takes: deletions at a time, calls a second. None: any number."""

    max_deletes: int | None = None
    calls_per_s: float | None = None


class Breakers:
    """The breakers of all providers, one document a kind of call; any number of processes at once."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock

    def of(self, provider: str) -> Mapping[Call, Breaker]:
        """The breakers of a provider as they are."""
        return {call: self._find(provider, call)[0] for call in Call}

    def check(self, provider: str, call: Call) -> None:
        """CallsPaused when no such call may go through now; nothing is changed."""
        self._refuse(provider, call, self._find(provider, call)[0])

    def admit(self, provider: str, call: Call) -> Breaker:
        """Let a call through, as the one probe if it must be; CallsPaused when it may not."""
        return self._books.again(lambda: self._admit(provider, call))

    def _admit(self, provider: str, call: Call) -> Breaker:
        breaker, version = self._find(provider, call)
        self._refuse(provider, call, breaker)
        return self._keep(provider, call, breaker, breakers.called(breaker, self._clock.now()), version)

    def answered(self, provider: str, call: Call, admitted: Breaker) -> None:
        """The provider answered a call; one that was let through by an untouched breaker has nothing to tell it."""
        if admitted != Breaker():
            self._change(provider, call, breakers.succeeded)

    def failed(self, provider: str, call: Call, error: TransientError) -> CallsPaused | None:
        """The provider failed to answer; what to tell whoever called, if that opened the breaker or found it open."""
        now = self._clock.now()
        breaker = self._change(provider, call, lambda one: breakers.failed(one, str(error), now))
        return None if breakers.may_call(breaker, now) else _paused(provider, call, breaker)

    def _refuse(self, provider: str, call: Call, breaker: Breaker) -> None:
        if not breakers.may_call(breaker, self._clock.now()):
            raise _paused(provider, call, breaker)

    def _change(self, provider: str, call: Call, change: Callable[[Breaker], Breaker]) -> Breaker:
        def once() -> Breaker:
            breaker, version = self._find(provider, call)
            return self._keep(provider, call, breaker, change(breaker), version)

        return self._books.again(once)

    def _find(self, provider: str, call: Call) -> tuple[Breaker, int]:
        loaded = self._books.breakers.find(_id(provider, call))
        return (Breaker(), 0) if loaded is None else (loaded.value, loaded.version)

    def _keep(self, provider: str, call: Call, old: Breaker, new: Breaker, version: int) -> Breaker:
        if new != old:
            self._books.commit(BREAKERS.put(_id(provider, call), new, version))
        return new


def _id(provider: str, call: Call) -> str:
    return f"{provider}.{call}"


def _paused(provider: str, call: Call, breaker: Breaker) -> CallsPaused:
    how = "are paused" if breaker.state is BreakerState.OPEN else "wait for the one that probes,"
    why = f"after {breaker.failures} failures (last: {breaker.last})"
    return CallsPaused(
        f"provider {provider}: {call} calls {how} until {time_of_day(breaker.until)} {why}", breaker.until
    )


class WatchedDriver:
    """`Driver` in front of another one: no call goes past the breakers and limits of its provider."""

    def __init__(
        self, provider: str, driver: Driver, books: Books, clock: Clock, call_limits: CallLimits | None = None
    ) -> None:
        self.driver = driver
        self._provider = provider
        self._books = books
        self._clock = clock
        self._limits = call_limits or CallLimits()
        self._breakers = Breakers(books, clock)

    @property
    def capabilities(self) -> Capabilities:
        return self.driver.capabilities

    def create(self, request: EnvironmentRequest) -> None:
        self._call(Call.CREATE, lambda: self.driver.create(request))

    def nodes(self) -> Sequence[NodeView]:
        return self._call(Call.LIST, self.driver.nodes)

    def list(self) -> Listing:
        return self._call(Call.LIST, self.driver.list)

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        if self._limits.max_deletes is None:
            return self._destroy(environment_id, nodes)
        self._books.again(lambda: self._occupy(environment_id))
        try:
            self._destroy(environment_id, nodes)
        finally:
            self._books.again(lambda: self._vacate(environment_id))
        return None

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self._call(Call.MARK, lambda: self.driver.mark_end(environment_id, ends_at))

    def inventory(self) -> Inventory | None:
        return self.driver.inventory()

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:
        """Its failures count for nothing: what cannot be measured may still be built and taken back."""
        return self.driver.loads(machines)

    def check(self) -> Sequence[str]:
        return self.driver.check()

    def close(self) -> None:
        self.driver.close()

    def _destroy(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        self._call(Call.DESTROY, lambda: self.driver.destroy(environment_id, nodes))

    def _call(self, call: Call, act: Callable[[], T]) -> T:
        """Only what speaks of the provider counts: no room, or a mistake in this request, is an answer."""
        self._pace(call)
        admitted = self._breakers.admit(self._provider, call)
        try:
            result = act()
        except TransientError as error:
            paused = self._breakers.failed(self._provider, call, error)
            if paused is None:
                raise
            raise paused from error
        except InfraError:
            self._breakers.answered(self._provider, call, admitted)
            raise
        self._breakers.answered(self._provider, call, admitted)
        return result

    def _pace(self, call: Call) -> None:
        """Use up a token, but none for a call that a breaker stops."""
        rate = self._limits.calls_per_s
        if rate is not None:
            self._breakers.check(self._provider, call)
            # who looks again and again must not take every token before those who look once
            leave = 1.0 if call in {Call.LIST, Call.MARK} else 0.0
            self._books.again(lambda: self._take(rate, leave))

    def _take(self, rate: float, leave: float) -> None:
        loaded, now = self._books.buckets.find(self._provider), self._clock.now()
        was, version = (Bucket(), 0) if loaded is None else (loaded.value, loaded.version)
        bucket, wait = limits.take(was, rate, now, leave)
        if bucket != was:
            self._books.commit(BUCKETS.put(self._provider, bucket, version))
        if wait:
            raise CallsPaused(f"provider {self._provider}: its limit of {rate:g} calls/s is reached", now + wait)

    def _occupy(self, holder: str) -> None:
        slots, version = self._slots()
        most, now = self._limits.max_deletes or 1, self._clock.now()
        taken = limits.occupy(slots, holder, most, now, now + SLOT_S)
        if taken is None:
            why = f"provider {self._provider}: its limit of deletions at a time ({most}) is reached"
            raise CallsPaused(why, now + SLOT_RETRY_S)
        self._books.commit(SLOTS.put(self._provider, taken, version))

    def _vacate(self, holder: str) -> None:
        slots, version = self._slots()
        if holder in slots.held:
            self._books.commit(SLOTS.put(self._provider, limits.vacate(slots, holder), version))

    def _slots(self) -> tuple[Slots, int]:
        loaded = self._books.slots.find(self._provider)
        return (Slots(), 0) if loaded is None else (loaded.value, loaded.version)
