"""What to do after an error on our side: a value, decided here and carried out elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, overload

from pipeline.domain.errors import CallsPaused, CapacityError, GreenroomError, TransientError

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
    reason: str


@dataclass(frozen=True)
class WaitForCapacity:
    """There is no room now: look again at this time, however often; nothing is at fault."""

    at: float
    reason: str


@dataclass(frozen=True)
class OpenBreaker:
    """The provider is not called before this time, by nobody: whoever wants it waits, and no try is used up."""

    at: float
    reason: str


@dataclass(frozen=True)
class Hold:
    """It does not pass by itself, and what is left must not be forgotten: keep it in the books for a person to look
    at, and look again at this time.
    """

    at: float
    reason: str


@dataclass(frozen=True)
class GiveUp:
    """No further attempt helps."""

    reason: str


#: Of work that may be given up, and of taking back, which never is.
Decision = RetryAt | WaitForCapacity | OpenBreaker | GiveUp
Return = RetryAt | WaitForCapacity | OpenBreaker | Hold


def backoff(tries: int, dice: float) -> float:
    """Seconds before the next try, more than 0: exponential with full jitter; `dice` in [0, 1).

    Source: "Exponential Backoff and Jitter", AWS Architecture Blog, 2015: of all jitters, the whole range makes the
    fewest calls collide.
    """
    ceiling: float = min(MAX_DELAY_S, BASE_DELAY_S * 2.0 ** min(tries, 16))
    return ceiling * (1.0 - dice)


@overload
def decide(
    error: GreenroomError, tries: int, now: float, dice: float, *, taking_back: Literal[False] = False
) -> Decision: ...


@overload
def decide(error: GreenroomError, tries: int, now: float, dice: float, *, taking_back: Literal[True]) -> Return: ...


def decide(
    error: GreenroomError, tries: int, now: float, dice: float, *, taking_back: bool = False
) -> Decision | Return:
    """After the `tries`-th failed try: only what may pass by itself is tried again; waiting for room never ends.

    `taking_back`: servers may be left, so it is never given up; what will not pass by itself is held.
    """
    reason, later = str(error), now + backoff(tries, dice)
    if isinstance(error, CallsPaused):
        return OpenBreaker(error.until, reason)
    if isinstance(error, CapacityError):
        return WaitForCapacity(later, reason)
    if isinstance(error, TransientError) and (taking_back or tries < MAX_ATTEMPTS):
        return RetryAt(max(later, now + error.retry_after_s), reason)
    return Hold(now + MAX_DELAY_S, reason) if taking_back else GiveUp(reason)
