"""What a request that waits is told: its position, about how long, and what for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

#: Gaps between places that an estimate is made from.
REMEMBERED = 20
#: Seconds after which the words about a request that waits are brought up to date, and the position from which on it
#: takes longer the further back it stands: what moves at the end of a long line is not worth a write.
RETELL_S = 15.0
NEAR = 20
MINUTE, HOUR = 60.0, 3600.0


class Hindrance(StrEnum):
    """What is in the way: the project's own quota, room at the provider, one that is not overtaken any more, or a
    service that stands nowhere yet.
    """

    QUOTA = "quota"
    SERVICE = "service"
    ROOM = "room"
    TURN = "turn"


@dataclass(frozen=True)
class Wait:
    """How a request waits. `position` counts from 1 among those that wait for the same provider, or for the same
    project's quota or services. `estimate_s`: seconds until it may have its place; None: nobody knows.
    """

    position: int
    hindrance: Hindrance
    estimate_s: float | None = None


@dataclass(frozen=True)
class Pace:
    """How fast a line moves: seconds between the last places that it was given, and when the very last one was."""

    gaps: tuple[float, ...]
    at: float


def paced(pace: Pace | None, since: float, now: float) -> Pace:
    """The pace after one that waited since `since` got its place.

    Its gap begins with the place before, or with its own request if that came later: as long as nobody waits, nothing
    is learned. Several places at once are gaps of 0 after the first one.
    """
    gap = max(0.0, now - (since if pace is None else max(pace.at, since)))
    return Pace((*(pace.gaps if pace else ()), gap)[-REMEMBERED:], now)


def estimate(pace: Pace | None, position: int, since: float, now: float) -> float | None:
    """Seconds until the one at `position`, which waits since `since`, may have its place; None without any data.

    The mean gap for each place up to its own. A line that has stood still for longer than that is taken to move no
    faster than it did meanwhile.
    """
    if pace is None:
        return None
    still = max(0.0, now - max(pace.at, since))
    return position * max(sum(pace.gaps) / len(pace.gaps), still)


def told(wait: Wait, why: str) -> str:
    """The words for a person."""
    return f"waits, position {wait.position}, {about(wait.estimate_s)}: {why}"


def about(seconds: float | None) -> str:
    """`about 4 min`; no more exact than it is known."""
    if seconds is None:
        return "no estimate yet"
    if seconds <= MINUTE:
        return f"about {max(1, math.ceil(seconds / 10)) * 10} s"
    if seconds < 2 * HOUR:
        return f"about {round(seconds / MINUTE)} min"
    return f"about {round(seconds / HOUR)} h"


def tell_again_s(position: int) -> float:
    """Seconds after which a wait is told anew."""
    return RETELL_S * max(1.0, position / NEAR)
