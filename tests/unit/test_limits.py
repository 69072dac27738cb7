"""Buckets and slots: what is counted is never more than what is allowed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.limits import FEWEST, Bucket, Slots, occupy, take, vacate


@given(st.floats(0.1, 50.0), st.lists(st.floats(0.0, 3.0), min_size=1, max_size=200))
def test_calls_never_exceed_the_rate_by_more_than_what_one_second_holds(rate: float, pauses: list[float]) -> None:
    bucket, now, made = Bucket(), 1000.0, 0
    for pause in pauses:
        now += pause
        bucket, wait = take(bucket, rate, now)
        made += wait == 0.0
        assert made <= max(FEWEST, rate) + rate * (now - 1000.0) + 1e-6


@given(st.floats(0.1, 50.0), st.integers(0, 100))
def test_whoever_waits_as_told_gets_a_token(rate: float, calls: int) -> None:
    bucket, now = Bucket(), 1000.0
    for _ in range(calls):
        bucket, wait = take(bucket, rate, now)
        if wait:
            now += wait + 1e-6
            bucket, wait = take(bucket, rate, now)
            assert wait == 0.0


def test_a_call_that_leaves_a_token_waits_for_one_more() -> None:
    bucket, wait = take(Bucket(1.5, 10.0), 0.5, 10.0, leave=1.0)
    assert (bucket, wait) == (Bucket(1.5, 10.0), 1.0)
    assert take(bucket, 0.5, 11.0, leave=1.0)[1] == 0.0
    assert take(bucket, 0.5, 10.0)[1] == 0.0


def test_a_clock_that_jumps_back_stops_nothing_for_long() -> None:
    bucket = Bucket(0.0, 5000.0)
    bucket, wait = take(bucket, 2.0, 1000.0)
    assert wait == 0.5
    assert take(bucket, 2.0, 1000.5)[1] == 0.0


def test_slots_are_taken_given_back_and_fall_to_others_in_time() -> None:
    one = occupy(Slots(), "a", 1, 0.0, 10.0)
    assert one == Slots({"a": 10.0})
    assert occupy(one, "b", 1, 5.0, 15.0) is None
    assert occupy(one, "a", 1, 5.0, 15.0) == Slots({"a": 15.0})
    assert occupy(vacate(one, "a"), "b", 1, 5.0, 15.0) == Slots({"b": 15.0})
    assert occupy(one, "b", 1, 10.0, 20.0) == Slots({"b": 20.0})
