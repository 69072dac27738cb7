"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.durations import LONGEST_S, check_span, format_duration, parse_duration, parse_positive_duration
from pipeline.domain.errors import UserError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60s", 60), ("30m", 1800), ("1h30m", 5400), ("2d", 172800), ("1d1h1m1s", 90061), ("0s", 0), ("90m", 5400)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "60", "1.5h", "m", "30m1h", "1h 30m", "-1m", "1w", "10 minutes", "1H", "٣m ", "1m\n"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["8d", "999999999s"])
def test_what_is_too_long(text: str) -> None:
    with pytest.raises(ValueError, match="at most 7d"):
        parse_duration(text)


def test_a_wish_has_a_longest_span() -> None:
    for seconds in (None, 0.0, 600.0):
        check_span("drain", seconds, 600.0)
    for seconds, told in ((-1.0, "-1"), (600.5, "600.5"), (float("nan"), "nan")):
        with pytest.raises(UserError, match=f"drain: expected 0 to 600 s, not {told}"):
            check_span("drain", seconds, 600.0)


def test_some_durations_may_not_be_zero() -> None:
    assert parse_positive_duration("1s") == 1
    with pytest.raises(ValueError, match="more than no time"):
        parse_positive_duration("0m")


@given(st.integers(min_value=0, max_value=int(LONGEST_S)))
def test_what_is_written_is_read_again(seconds: int) -> None:
    assert parse_duration(format_duration(seconds)) == seconds
