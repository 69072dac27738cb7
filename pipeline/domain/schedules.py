"""Schedules: regular runs of a project, when each is due, and what becomes of a due time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from pipeline.domain.blueprint import Missed, Overlap, ScheduleSpec
from pipeline.domain.cron import Cron, parse_cron, parse_zone
from pipeline.domain.errors import UserError

#: A run that begins so many seconds after it was due was missed: nobody led, or the machine was off.
LATE_S = 60.0


class Source(StrEnum):
    """Where a schedule was asked for: over the API, or in the greenroom.yml of a default branch."""

    API = "api"
    FILE = "file"


class Due(StrEnum):
    """What became of a due time."""

    STARTED = "started"
    MISSED = "missed"
    OVERLAPPED = "overlapped"


@dataclass(frozen=True)
class Schedule:
    """A regular run of `spec.branch` (any ref) of a repository. Times are seconds since the epoch.

    `due_at` is the next due time. `last_due_at`, `last` and `last_reason` say what became of the one before;
    `last_trigger` is the trigger that it submitted last, also by hand.
    """

    id: str
    project: str
    repository: str
    spec: ScheduleSpec
    source: Source
    created_at: float
    due_at: float
    last_due_at: float | None = None
    last: Due | None = None
    last_reason: str = ""
    last_trigger: str = ""


def new(project: str, repository: str, spec: ScheduleSpec, source: Source, now: float) -> Schedule:
    """A schedule that is due for the first time after `now`."""
    id = id_of(project, repository, spec, source)
    return Schedule(id, project, repository, spec, source, now, next_due(spec, now))


def id_of(project: str, repository: str, spec: ScheduleSpec, source: Source) -> str:
    """The same for the same times of the same branch: nothing is asked for twice, and a file may be read again."""
    text = "\n".join((source, project, repository, spec.cron, spec.timezone, spec.branch))
    return f"sch-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def checked(spec: ScheduleSpec) -> ScheduleSpec:
    """The same wish, tidied; UserError names the field that cannot be meant."""
    try:
        cron = parse_cron(spec.cron).fields
    except ValueError as error:
        raise UserError(f"cron {spec.cron[:80]!r}: {str(error).removeprefix('cron ')}") from error
    try:
        return replace(spec, cron=cron, timezone=parse_zone(spec.timezone))
    except ValueError as error:
        raise UserError(f"timezone: {error}") from error


def next_due(spec: ScheduleSpec, after: float) -> float:
    """The first due time after a moment, both in epoch seconds."""
    return Cron(spec.cron, spec.timezone).next_after(after)


def is_due(schedule: Schedule, now: float) -> bool:
    return schedule.due_at <= now


def trigger_id(schedule: Schedule) -> str:
    """The name of what the due time submits: the same however often it is tried."""
    return f"trg-{schedule.id}-{int(schedule.due_at)}"


def decide(schedule: Schedule, now: float, busy: str) -> Schedule:
    """The schedule after its due time, which `last` says the fate of; several that passed count as one.

    `busy` names the last run while it is not finished, and is empty otherwise. A due time that is skipped is not made
    up for later.
    """
    fate, reason = _fate(schedule, now, busy)
    started = trigger_id(schedule) if fate is Due.STARTED else schedule.last_trigger
    return replace(
        schedule,
        due_at=next_due(schedule.spec, max(now, schedule.due_at)),
        last_due_at=schedule.due_at,
        last=fate,
        last_reason=reason,
        last_trigger=started,
    )


def _fate(schedule: Schedule, now: float, busy: str) -> tuple[Due, str]:
    late = now - schedule.due_at
    if late > LATE_S and schedule.spec.missed is Missed.SKIP:
        return Due.MISSED, f"nothing could be started until {late:.0f} s after it was due"
    if busy and schedule.spec.overlap is Overlap.SKIP:
        return Due.OVERLAPPED, f"{busy} is not finished"
    return Due.STARTED, f"started {late:.0f} s after it was due" if late > LATE_S else ""


def put_forward(schedule: Schedule, now: float) -> Schedule:
    """After a jump back of the clock: what was put off by the wrong time is due when the right one says."""
    due = next_due(schedule.spec, now)
    return replace(schedule, due_at=due) if due < schedule.due_at else schedule


@dataclass(frozen=True)
class Change:
    """What a file changes of the schedules that stand: `kept` are new or otherwise than before."""

    kept: tuple[Schedule, ...]
    gone: tuple[Schedule, ...]


def of_file(
    project: str, repository: str, specs: Iterable[ScheduleSpec], known: Iterable[Schedule], now: float
) -> Change:
    """What becomes of a repository's schedules when its file asks for `specs`; one that stays keeps its history."""
    before: Mapping[str, Schedule] = {one.id: one for one in known}
    asked = {one.id: one for one in (new(project, repository, spec, Source.FILE, now) for spec in specs)}
    kept = [replace(before[id], spec=one.spec) if id in before else one for id, one in asked.items()]
    changed = tuple(one for one in kept if before.get(one.id) != one)
    return Change(changed, tuple(one for id, one in before.items() if id not in asked))
