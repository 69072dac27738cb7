"""Five cron fields, read in a time zone as crontab(5) says: minute, hour, day of month, month, day of week."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

#: Each field as a person calls it, and what it takes.
_FIELDS = (
    ("minute", "0-59"),
    ("hour", "0-23"),
    ("day of month", "1-31"),
    ("month", "1-12"),
    ("day of week", "0-7"),
)
#: No five fields that make sense are longer.
_LONGEST = 200
#: Any moment: whether something is ever due does not depend on it.
_SOME_DAY = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Cron:
    """The minutes at which something is due; `fields` were checked by `parse_cron`, `zone` by `parse_zone`."""

    fields: str
    zone: str = "UTC"

    def next_after(self, epoch_s: float) -> float:
        """The first due minute after a moment, both in epoch seconds.

        An hour that is named comes once a day whatever the clocks do: what falls into an hour that is left out is due
        right after it, and an hour that comes twice counts the first time. With the hour `*`, every hour that passes
        counts.
        """
        start = datetime.fromtimestamp(epoch_s, ZoneInfo(self.zone))
        due = (moment.timestamp() for moment in CronSim(_named(self.fields), start))
        # In an hour that comes a second time the library begins with what was due the first time.
        return next(moment for moment in due if moment > epoch_s)


def parse_cron(text: str) -> Cron:
    """Read five fields, in UTC; ValueError says which one is wrong and why."""
    fields = text.split()
    if len(fields) != len(_FIELDS) or len(text) > _LONGEST:
        raise ValueError(f'expected five cron fields such as "0 2 * * *", got {len(fields)} in {text[:80]!r}')
    for number in range(len(_FIELDS)):
        _check_alone(fields[number], number)
    try:
        next(CronSim(_named(text), _SOME_DAY))
    except (CronSimError, StopIteration) as error:
        raise ValueError(f"day {fields[2]} never comes in month {fields[3]}, in {text!r}") from error
    return Cron(" ".join(fields))


def parse_zone(name: str) -> str:
    """The name of a time zone as IANA lists it; ValueError names the nearest one."""
    if name in _zones():
        return name
    by_case = {zone.lower(): zone for zone in _zones()}
    near = difflib.get_close_matches(name.lower(), by_case, n=1, cutoff=0.5)
    hint = f"; did you mean {by_case[near[0]]}?" if near else "; names are such as Europe/Berlin or UTC"
    raise ValueError(f"there is no time zone {name[:80]!r}{hint}")


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _check_alone(field: str, number: int) -> None:
    """Each field with stars in the others, so that its own mistake is told first."""
    alone = ["*"] * len(_FIELDS)
    alone[number] = field
    try:
        CronSim(" ".join(alone), _SOME_DAY)
    except CronSimError as error:
        name, takes = _FIELDS[number]
        raise ValueError(f"cron {name}: expected {takes}, `*`, lists, ranges or steps, got {field!r}") from error


def _named(text: str) -> str:
    """The same fields with every hour named, unless it is `*`: the library handles the change of clocks for those."""
    minute, hour, *days = text.split()
    if hour == "*":
        return text
    minute, hour = minute.replace("*", "0-59", 1), hour.replace("*", "0-23", 1)
    return " ".join((minute, hour, *days))
