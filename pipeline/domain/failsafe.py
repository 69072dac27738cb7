"""What to do after an error on our side: a value, decided here and carried out elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain.errors import CapacityError, GreenroomError, TransientError

#: Attempts of one stage that may end in an error of ours before the stage is given up.
MAX_ATTEMPTS = 4
#: Attempts of one stage that may lose their worker before the stage is given up.
MAX_LOST = 5
BASE_DELAY_S = 0.5
MAX_DELAY_S = 60.0


@dataclass(frozen=True)
class RetryAt:
    """Try again, not before this time."""

    at: float


@dataclass(frozen=True)
class GiveUp:
    """No further attempt helps."""


Decision = RetryAt | GiveUp


def backoff(tries: int, dice: float) -> float:
    """Seconds before the next try: exponential with full jitter; `dice` in [0, 1)."""
    ceiling: float = min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(tries, 16))
    return ceiling * (0.5 + dice / 2)


def decide(error: GreenroomError, tries: int, now: float, dice: float) -> Decision:
    """After the `tries`-th failed try: only what may pass by itself is tried again; waiting for room never ends."""
    if isinstance(error, CapacityError):
        return RetryAt(now + backoff(tries, dice))
    if isinstance(error, TransientError) and tries < MAX_ATTEMPTS:
        return RetryAt(now + backoff(tries, dice))
    return GiveUp()
