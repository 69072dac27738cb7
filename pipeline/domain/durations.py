"""Durations as people write them: `30m`, `60s`, `1h30m`, `2d`."""

from __future__ import annotations

import re

from pipeline.domain.errors import UserError

_DURATION = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,6})h)?(?:(\d{1,8})m)?(?:(\d{1,10})s)?", re.ASCII)
_UNIT_S = (86400, 3600, 60, 1)

#: A moment further ahead than this was told by a clock that jumped back since; less is a difference between hosts.
SKEW_S = 5.0
#: Nothing in Greenroom lasts longer by request (a week).
LONGEST_S = 7 * 86400.0


def parse_duration(text: str) -> float:
    """Seconds of a duration; ValueError says what was expected."""
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise ValueError(f"expected a duration such as 60s, 30m or 1h30m, got {text!r}")
    seconds = float(sum(int(part) * unit for part, unit in zip(match.groups(), _UNIT_S, strict=True) if part))
    if seconds > LONGEST_S:
        raise ValueError(f"expected at most 7d, got {text!r}")
    return seconds


def parse_positive_duration(text: str) -> float:
    """Seconds of a duration that may not be zero."""
    seconds = parse_duration(text)
    if not seconds:
        raise ValueError(f"expected more than no time, got {text!r}")
    return seconds


def check_span(name: str, seconds: float | None, most_s: float) -> None:
    """UserError when what somebody wishes under a name is less than nothing or too long; None: nothing is wished."""
    if seconds is not None and not 0 <= seconds <= most_s:
        raise UserError(f"{name}: expected 0 to {most_s:.0f} s, not {seconds:g}")


def passed(since: float, now: float, seconds: float) -> bool:
    """Whether so many seconds passed; a moment that is yet to come is none of this clock, which jumped back."""
    return not since <= now < since + seconds


def format_duration(seconds: float) -> str:
    """The shortest way to write whole seconds, as `parse_duration` reads it."""
    parts = []
    rest = round(seconds)
    for unit, letter in zip(_UNIT_S, "dhms", strict=True):
        amount, rest = divmod(rest, unit)
        if amount:
            parts.append(f"{amount}{letter}")
    return "".join(parts) or "0s"
