"""Breakers: what stops calls of one kind to a provider that fails, and lets one through to probe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

#: Failures without a success in between that open a breaker.
FAILURES = 5
#: A failure that came so many seconds after the last one begins a new count.
FORGET_S = 60.0
#: The first pause in seconds, doubled by each probe that fails, and the longest.
PAUSE_S = 10.0
MAX_PAUSE_S = 300.0
#: A probe that was not heard of for so long is lost: another call may probe.
PROBE_S = 120.0


class Call(StrEnum):
    """The kinds of calls to a driver; each has a breaker of its own, so that one which fails stops no other."""

    CREATE = "create"
    LIST = "list"
    DESTROY = "destroy"
    MARK = "mark"


class BreakerState(StrEnum):
    """Closed: calls go through. Open: none does. Half-open: one is on its way to probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True)
class Breaker:
    """One kind of call to one provider. Times are epoch seconds.

    `failures` in a row, the last one at `failed_at` with the text `last`. `until`: when the next call may probe.
    `pauses` in a row, each longer than the one before.
    """

    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    failed_at: float = 0.0
    last: str = ""
    until: float = 0.0
    pauses: int = 0


def may_call(breaker: Breaker, now: float) -> bool:
    """Whether a call may go through now, be it as the probe; no pause is longer, so the clock went back, if one is."""
    pauses = now < breaker.until <= now + max(MAX_PAUSE_S, PROBE_S)
    return breaker.state is BreakerState.CLOSED or not pauses


def called(breaker: Breaker, now: float) -> Breaker:
    """The breaker once a call goes through: unchanged when it is closed, else that call is the probe."""
    if breaker.state is BreakerState.CLOSED:
        return breaker
    return replace(breaker, state=BreakerState.HALF_OPEN, until=now + PROBE_S)


def failed(breaker: Breaker, why: str, now: float) -> Breaker:
    """After a call that failed by the provider's fault: the probe's failure opens again, the others count."""
    if breaker.state is BreakerState.OPEN:
        return breaker  # a call that began before it opened
    fresh = breaker.state is BreakerState.CLOSED and now - breaker.failed_at > FORGET_S
    failures = 1 if fresh else breaker.failures + 1
    counted = replace(breaker, failures=failures, failed_at=now, last=why)
    if breaker.state is BreakerState.CLOSED and failures < FAILURES:
        return counted
    pause = min(MAX_PAUSE_S, PAUSE_S * 2.0 ** min(breaker.pauses, 16))
    return replace(counted, state=BreakerState.OPEN, until=now + pause, pauses=breaker.pauses + 1)


def succeeded(breaker: Breaker) -> Breaker:
    """After a call that the provider answered, be it with a refusal of this one request."""
    return breaker if breaker.state is BreakerState.OPEN else Breaker()
