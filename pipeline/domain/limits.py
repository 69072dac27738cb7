"""Limits of calls: a bucket of tokens that fills again, and slots that are taken and given back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

#: Tokens that every bucket has room for, so that a call which leaves one may go at all.
FEWEST = 2.0


@dataclass(frozen=True)
class Bucket:
    """`tokens` that were left at `at` (epoch seconds); one that was never used is full."""

    tokens: float = 0.0
    at: float = 0.0


def take(bucket: Bucket, rate: float, now: float, leave: float = 0.0) -> tuple[Bucket, float]:
    """The bucket after one call at `rate` calls/s, and 0; or as it was, and the seconds until the call may go.

    It holds what fills it in one second, at least `FEWEST`. A call that must `leave` tokens lets others go first.
    """
    # a clock that jumped back must not stop the calls for the length of the jump
    tokens = min(max(FEWEST, rate), bucket.tokens + max(0.0, now - bucket.at) * rate)
    if tokens < 1.0 + leave:
        return bucket if bucket.at <= now else Bucket(bucket.tokens, now), (1.0 + leave - tokens) / rate
    return Bucket(tokens - 1.0, now), 0.0


@dataclass(frozen=True)
class Slots:
    """Who holds a slot, and until when (epoch seconds) it is his at most: one that died gives nothing back."""

    held: Mapping[str, float] = field(default_factory=dict)


def occupy(slots: Slots, holder: str, most: int, now: float, until: float) -> Slots | None:
    """The slots with one for this holder, who may have it already; None when all are taken."""
    held = {name: end for name, end in slots.held.items() if end > now and name != holder}
    return None if len(held) >= most else Slots({**held, holder: until})


def vacate(slots: Slots, holder: str) -> Slots:
    """The slots without this holder's."""
    return Slots({name: end for name, end in slots.held.items() if name != holder})
