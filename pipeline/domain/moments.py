"""Moments, in seconds since the epoch, as a person reads them: in UTC, as exact as is needed."""

from __future__ import annotations

from datetime import UTC, datetime

#: Of what is not due as long as nobody changes it: later than every moment.
NEVER = 1e11


def time_of_day(at: float) -> str:
    """A moment that is minutes away: `14:05:09 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S UTC")


def to_the_minute(at: float) -> str:
    """A moment since when something is so: `2026-01-31 14:05 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")


def to_the_second(at: float) -> str:
    """A moment at which something ends: `2026-01-31 14:05:09 UTC`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
