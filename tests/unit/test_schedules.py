"""Schedules as values: when they are due, by which clock, and what becomes of a due time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.blueprint import Missed, Overlap, ScheduleSpec
from pipeline.domain.cron import Cron, parse_cron, parse_zone
from pipeline.domain.schedules import LATE_S, Due, Schedule, Source, decide, is_due, new, of_file, put_forward

NIGHTLY = ScheduleSpec("0 2 * * *", "main")
REPOSITORY = "https://forge.test/shop.git"
BERLIN = "Europe/Berlin"
ZONES = st.sampled_from(["UTC", BERLIN, "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"])
CRONS = st.sampled_from(["0 2 * * *", "30 1,2,3 * * *", "*/20 2 * * *", "15 * * * *", "0 */6 * * 1-5", "59 23 31 12 *"])
MOMENTS = st.integers(1_300_000_000, 1_900_000_000).map(float)
SPECS = st.builds(
    ScheduleSpec,
    CRONS,
    st.sampled_from(["main", "release"]),
    timezone=ZONES,
    overlap=st.sampled_from(Overlap),
    missed=st.sampled_from(Missed),
)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def dues(cron: str, zone: str, after: str, count: int) -> list[str]:
    """The first due times after a moment, in UTC."""
    moment, found = at(after), []
    for _ in range(count):
        moment = Cron(cron, zone).next_after(moment)
        found.append(datetime.fromtimestamp(moment, UTC).strftime("%m-%d %H:%M"))
    return found


def made(spec: ScheduleSpec = NIGHTLY, now: float = 0.0) -> Schedule:
    return new("shop", REPOSITORY, spec, Source.API, now)


# Clocks that change: Berlin leaves out 02:00-03:00 on 2026-03-29 and has 02:00-03:00 twice on 2026-10-25


@pytest.mark.parametrize(
    ("cron", "after", "expected"),
    [
        ("0 2 * * *", "2026-03-28T00:00", ["03-28 01:00", "03-29 01:00", "03-30 00:00"]),
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:30"]),
        ("*/20 2 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-30 00:00", "03-30 00:20"]),
        ("0,30 2,3 * * *", "2026-03-28T12:00", ["03-29 01:00", "03-29 01:30", "03-30 00:00"]),
        ("0 * * * *", "2026-03-28T23:30", ["03-29 00:00", "03-29 01:00", "03-29 02:00"]),
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 00:30", "10-26 01:30"]),
        ("*/30 2 * * *", "2026-10-24T12:00", ["10-25 00:00", "10-25 00:30", "10-26 01:00"]),
        ("30 2 * * *", "2026-10-25T00:45", ["10-26 01:30"]),
        ("30 * * * *", "2026-10-24T23:45", ["10-25 00:30", "10-25 01:30", "10-25 02:30"]),
    ],
)
def test_a_named_hour_comes_once_a_day_whatever_the_clocks_do(cron: str, after: str, expected: list[str]) -> None:
    assert dues(cron, BERLIN, after, len(expected)) == expected


@given(ZONES, st.integers(0, 23), st.integers(0, 59), MOMENTS)
def test_one_due_time_a_day_in_any_zone(zone: str, hour: int, minute: int, now: float) -> None:
    cron, days = Cron(f"{minute} {hour} * * *", zone), []
    for _ in range(30):
        now = cron.next_after(now)
        days.append(datetime.fromtimestamp(now, ZoneInfo(zone)).date())
    assert len(set(days)) == len(days)
    # A zone that changes sides of the date line leaves a day out; nobody else does.
    assert zone == "Pacific/Apia" or (days[-1] - days[0]).days == len(days) - 1


@given(CRONS, ZONES, MOMENTS, st.floats(0, 86_400))
def test_there_is_nothing_due_before_what_is_due_next(cron: str, zone: str, now: float, later: float) -> None:
    due = Cron(cron, zone).next_after(now)
    assert due > now
    between = min(now + later, due - 1)
    assert Cron(cron, zone).next_after(between) == due


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Europe/Berlni", "did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("../../etc/passwd", "there is no time zone"),
        ("Europe", "there is no time zone 'Europe'"),
        ("", "such as Europe/Berlin"),
        ("x" * 5000, "such as Europe/Berlin"),
        ("a\x00b", "there is no time zone"),
    ],
)
def test_what_is_no_zone(name: str, told: str) -> None:
    with pytest.raises(ValueError, match="there is no time zone") as refused:
        parse_zone(name)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 250


@given(st.text(max_size=30))
def test_any_text_is_a_cron_or_is_refused_as_one(text: str) -> None:
    try:
        cron = parse_cron(text)
    except ValueError:
        return
    assert cron.next_after(1e9) > 1e9


# Decisions


def test_a_due_time_is_started_once_and_the_next_is_put_down() -> None:
    schedule = made()
    started = decide(schedule, schedule.due_at + 1, "")
    assert (started.last, started.last_due_at) == (Due.STARTED, schedule.due_at)
    assert started.last_trigger == f"trg-{schedule.id}-{int(schedule.due_at)}"
    assert started.due_at == schedule.due_at + 86_400


@pytest.mark.parametrize(
    ("overlap", "busy", "fate"),
    [
        (Overlap.SKIP, "", Due.STARTED),
        (Overlap.SKIP, "run r", Due.OVERLAPPED),
        (Overlap.ALLOW, "run r", Due.STARTED),
    ],
)
def test_runs_overlap_only_where_that_is_asked_for(overlap: Overlap, busy: str, fate: Due) -> None:
    schedule = made(replace(NIGHTLY, overlap=overlap))
    decided = decide(schedule, schedule.due_at, busy)
    assert (decided.last, bool(decided.last_trigger)) == (fate, fate is Due.STARTED)


@pytest.mark.parametrize(
    ("missed", "late", "fate"),
    [
        (Missed.SKIP, LATE_S, Due.STARTED),
        (Missed.SKIP, LATE_S + 1, Due.MISSED),
        (Missed.RUN_ONCE, LATE_S + 1, Due.STARTED),
        (Missed.RUN_ONCE, 5 * 86_400.0, Due.STARTED),
    ],
)
def test_what_was_missed_is_done_as_configured(missed: Missed, late: float, fate: Due) -> None:
    schedule = made(replace(NIGHTLY, missed=missed))
    decided = decide(schedule, schedule.due_at + late, "")
    assert decided.last is fate
    assert schedule.due_at + late < decided.due_at <= schedule.due_at + late + 86_400


@given(SPECS, MOMENTS, st.lists(st.tuples(st.floats(0, 1e6), st.booleans()), max_size=20))
def test_however_the_tick_comes_no_due_time_is_decided_twice(
    spec: ScheduleSpec, now: float, looks: list[tuple[float, bool]]
) -> None:
    schedule, seen, triggers = made(spec, now), set[float](), list[str]()
    for step, busy in looks:
        now += step
        if not is_due(schedule, now):
            continue
        due, schedule = schedule.due_at, decide(schedule, now, "run r" if busy else "")
        assert due not in seen
        assert schedule.due_at > now
        seen.add(due)
        if schedule.last is Due.STARTED:
            triggers.append(schedule.last_trigger)
            assert not busy or spec.overlap is Overlap.ALLOW
            assert now - due <= LATE_S or spec.missed is Missed.RUN_ONCE
    assert len(set(triggers)) == len(triggers)


@given(SPECS, MOMENTS, st.floats(0, 1e8))
def test_after_a_jump_back_nothing_waits_longer_than_the_clock_says(
    spec: ScheduleSpec, now: float, jump: float
) -> None:
    ahead = made(spec, now + jump)
    right = put_forward(ahead, now)
    assert right.due_at == min(ahead.due_at, made(spec, now).due_at)


# Files


@given(st.lists(SPECS, max_size=6), st.lists(SPECS, max_size=6), MOMENTS)
def test_a_file_read_again_changes_nothing_and_a_new_one_all_that_differs(
    first: list[ScheduleSpec], second: list[ScheduleSpec], now: float
) -> None:
    made = of_file("shop", REPOSITORY, first, (), now).kept
    assert of_file("shop", REPOSITORY, first, made, now + 5e6) == of_file("shop", REPOSITORY, (), (), now)
    change = of_file("shop", REPOSITORY, second, made, now)
    after = {one.id: one for one in (*made, *change.kept)}
    left = {id: one for id, one in after.items() if id not in {gone.id for gone in change.gone}}
    assert {one.spec for one in left.values()} == {
        one.spec for one in of_file("shop", REPOSITORY, second, (), now).kept
    }


def test_a_schedule_that_stays_in_the_file_keeps_its_history() -> None:
    (one,) = of_file("shop", REPOSITORY, [NIGHTLY], (), 0.0).kept
    ran = decide(one, one.due_at, "")
    (changed,) = of_file("shop", REPOSITORY, [replace(NIGHTLY, overlap=Overlap.ALLOW)], [ran], 1e9).kept
    assert changed == replace(ran, spec=replace(NIGHTLY, overlap=Overlap.ALLOW))
