"""Five cron fields."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.cron import parse_cron


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "after", "due"),
    [
        ("0 2 * * *", "2024-01-01T01:59:59", "2024-01-01T02:00"),
        ("0 2 * * *", "2024-01-01T02:00:00", "2024-01-02T02:00"),
        ("*/15 * * * *", "2024-01-01T00:01", "2024-01-01T00:15"),
        ("5/20 * * * *", "2024-01-01T00:26", "2024-01-01T00:45"),
        ("30 9-17/4 * * mon-fri", "2024-01-05T18:00", "2024-01-08T09:30"),
        ("0 0 29 2 *", "2024-03-01T00:00", "2028-02-29T00:00"),
        ("0 0 29 2 *", "2096-03-01T00:00", "2104-02-29T00:00"),
        ("0 0 1,15 * *", "2024-01-02T00:00", "2024-01-15T00:00"),
        ("0 0 13 * fri", "2024-01-01T00:00", "2024-01-05T00:00"),
        ("0 0 */2 * 1", "2024-01-02T00:00", "2024-01-15T00:00"),
        ("0 0 * * 7", "2024-01-01T00:00", "2024-01-07T00:00"),
        ("0 0 * DEC sun", "2024-01-01T00:00", "2024-12-01T00:00"),
        ("59 23 31 12 *", "2024-12-31T23:59", "2025-12-31T23:59"),
    ],
)
def test_the_next_due_minute(cron: str, after: str, due: str) -> None:
    assert parse_cron(cron).next_after(at(after)) == at(due)


@pytest.mark.parametrize(
    ("cron", "told"),
    [
        ("", "five cron fields"),
        ("* * * *", "got 4"),
        ("* * * * * *", "got 6"),
        ("@daily", "five cron fields"),
        ("60 * * * *", "minute: expected 0-59, .*got '60'"),
        ("* 24 * * *", "hour: expected 0-23"),
        ("* * 0 * *", "day of month: expected 1-31"),
        ("* * * 13 *", "month: expected 1-12"),
        ("* * * * 8", "day of week: expected 0-7"),
        ("* * * * mo", "day of week"),
        ("*/0 * * * *", "minute: .*steps, got '\\*/0'"),
        ("*/ * * * *", "steps"),
        ("*/x * * * *", "steps"),
        ("5-1 * * * *", "minute: .*ranges .*got '5-1'"),
        ("1- * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1e1 * * * *", "minute"),
        ("² * * * *", "minute"),
        ("0 0 31 2 *", "day 31 never comes in month 2"),
        ("0 0 31 4,6 *", "never comes"),
        (f"{'9' * 5000} * * * *", "five cron fields"),
    ],
)
def test_what_is_no_cron(cron: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_cron(cron)


def test_an_impossible_day_is_fine_where_a_weekday_is_enough() -> None:
    assert parse_cron("0 0 31 2 mon").next_after(at("2024-01-31T00:00")) == at("2024-02-05T00:00")


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 2**31))
def test_the_due_minute_is_later_and_fits(minute: int, hour: int, now: int) -> None:
    due = datetime.fromtimestamp(parse_cron(f"{minute} {hour} * * *").next_after(now), UTC)
    assert now < due.timestamp() <= now + 86400
    assert (due.minute, due.hour, due.second) == (minute, hour, 0)
