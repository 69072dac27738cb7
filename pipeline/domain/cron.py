"""Five cron fields, read in UTC as crontab(5) says: minute, hour, day of month, month, day of week."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

_MONTHS = {"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6} | {
    "jul": 7,
    "aug": 8,
    "sep": 9,
    "oct": 10,
    "nov": 11,
    "dec": 12,
}
_DAYS = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_NO_NAMES: Mapping[str, int] = {}

#: February 29th on a given weekday comes back within 40 years at most (over a century year without one).
_HORIZON_DAYS = 41 * 366


@dataclass(frozen=True)
class _Field:
    name: str
    low: int
    high: int
    names: Mapping[str, int]


_FIELDS = (
    _Field("minute", 0, 59, _NO_NAMES),
    _Field("hour", 0, 23, _NO_NAMES),
    _Field("day of month", 1, 31, _NO_NAMES),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


@dataclass(frozen=True)
class Cron:
    """The minutes at which something is due. `weekdays` count from Sunday = 0."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def on(self, day: date) -> bool:
        """Whether anything is due on that day; with both day fields restricted, one of them is enough."""
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_month or by_week if self.either_day else by_month and by_week

    def next_after(self, epoch_s: float) -> float:
        """The first due minute after a moment, both in epoch seconds."""
        start = datetime.fromtimestamp(epoch_s, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        earliest = (start.hour, start.minute)
        for offset in range(_HORIZON_DAYS):
            day = start.date() + timedelta(days=offset)
            time = self._first_time(earliest if offset == 0 else (0, 0)) if self.on(day) else None
            if time is not None:
                return datetime(day.year, day.month, day.day, *time, tzinfo=UTC).timestamp()
        raise ValueError("no such day ever comes")

    def _first_time(self, earliest: tuple[int, int]) -> tuple[int, int] | None:
        times = ((hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes))
        return next((time for time in times if time >= earliest), None)


def parse_cron(text: str) -> Cron:
    """Read five fields; ValueError says which one is wrong and why."""
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(f'expected five cron fields such as "0 2 * * *", got {len(fields)} in {text!r}')
    minutes, hours, days, months, weekdays = (_values(f, spec) for f, spec in zip(fields, _FIELDS, strict=True))
    either_day = not fields[2].startswith("*") and not fields[4].startswith("*")
    cron = Cron(minutes, hours, days, months, frozenset(day % 7 for day in weekdays), either_day)
    if not either_day and not _possible(cron):
        raise ValueError(f"day {fields[2]} never comes in month {fields[3]}, in {text!r}")
    return cron


def _possible(cron: Cron) -> bool:
    longest = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}
    return min(cron.days) <= max(longest.get(month, 31) for month in cron.months)


def _values(text: str, field: _Field) -> frozenset[int]:
    return frozenset(value for part in text.split(",") for value in _range(part, field))


def _range(part: str, field: _Field) -> range:
    span, _, step = part.partition("/")
    if "/" in part and (not (step.isascii() and step.isdecimal()) or not int(step)):
        raise ValueError(f"cron {field.name}: expected a step of 1 or more in {part!r}")
    low, high = _bounds(span, field, stepped="/" in part)
    if low > high:
        raise ValueError(f"cron {field.name}: {part!r} runs backwards")
    return range(low, high + 1, int(step or 1))


def _bounds(span: str, field: _Field, *, stepped: bool) -> tuple[int, int]:
    if span == "*":
        return field.low, field.high
    first, dash, last = span.partition("-")
    low = _value(first, field)
    if dash:
        return low, _value(last, field)
    return low, field.high if stepped else low


def _value(text: str, field: _Field) -> int:
    value = field.names.get(text.lower(), int(text) if text.isascii() and text.isdecimal() and len(text) < 4 else -1)
    if not field.low <= value <= field.high:
        raise ValueError(f"cron {field.name}: expected {field.low}-{field.high}, got {text!r}")
    return value
