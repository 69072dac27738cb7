"""Breakers: closed, open, half-open, in every order of calls and answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.breakers import (
    FAILURES,
    FORGET_S,
    MAX_PAUSE_S,
    PAUSE_S,
    PROBE_S,
    Breaker,
    BreakerState,
    called,
    failed,
    may_call,
    succeeded,
)

S = BreakerState


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES):
        breaker = failed(breaker, "timeout", now)
    return breaker


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    breaker = Breaker()
    for number in range(1, FAILURES):
        breaker = failed(breaker, "timeout", number)
        assert (breaker.state, breaker.failures) == (S.CLOSED, number)
    breaker = failed(breaker, "the last one", 10.0)
    assert breaker == Breaker(S.OPEN, FAILURES, 10.0, "the last one", 10.0 + PAUSE_S, 1)
    assert not may_call(breaker, 10.0 + PAUSE_S - 0.1)
    assert may_call(breaker, 10.0 + PAUSE_S)


def test_a_success_and_a_long_silence_begin_a_new_count() -> None:
    breaker = failed(failed(Breaker(), "timeout", 1.0), "timeout", 2.0)
    assert succeeded(breaker) == Breaker()
    assert failed(breaker, "timeout", 2.1 + FORGET_S).failures == 1


def test_one_call_probes_and_decides() -> None:
    probing = called(opened(), PAUSE_S)
    assert probing.state is S.HALF_OPEN
    assert not may_call(probing, PAUSE_S + 1)
    assert succeeded(probing) == Breaker()
    again = failed(probing, "still away", PAUSE_S + 2)
    assert (again.state, again.until, again.failures) == (S.OPEN, PAUSE_S + 2 + 2 * PAUSE_S, FAILURES + 1)


def test_a_probe_that_was_lost_is_followed_by_another() -> None:
    probing = called(opened(), PAUSE_S)
    assert may_call(probing, PAUSE_S + PROBE_S)
    assert called(probing, PAUSE_S + PROBE_S).until == PAUSE_S + 2 * PROBE_S


def test_answers_to_calls_from_before_do_not_move_an_open_breaker() -> None:
    assert failed(opened(), "late", 5.0) == opened()
    assert succeeded(opened()) == opened()


EVENTS = st.lists(st.tuples(st.floats(0.0, 400.0), st.booleans()), max_size=60)


@given(EVENTS)
def test_in_any_history_one_call_at_a_time_probes_and_nobody_waits_for_ever(events: list[tuple[float, bool]]) -> None:
    """Each event: so many seconds pass, a call goes through if it may, and is answered at once or never heard of."""
    breaker, now, probes = Breaker(), 0.0, 0
    for seconds, answered in events:
        now += seconds
        if not may_call(breaker, now):
            assert breaker.until - now <= max(MAX_PAUSE_S, PROBE_S)
            continue
        was = breaker.state
        breaker = called(breaker, now)
        if was is not S.CLOSED:
            probes += 1
            assert breaker.state is S.HALF_OPEN
            assert not may_call(breaker, now), "a second call went through while one probes"
        if answered:
            breaker = succeeded(breaker)
            assert breaker == Breaker()
        elif was is S.CLOSED:
            breaker = failed(breaker, "away", now)
            assert (breaker.state is S.OPEN) == (breaker.failures >= FAILURES)


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_pauses_grow_while_probes_fail(probes: list[bool]) -> None:
    breaker, now, pause = opened(), 0.0, PAUSE_S
    for passes in probes:
        now = breaker.until
        breaker = called(breaker, now)
        if passes:
            assert succeeded(breaker).pauses == 0
            return
        breaker = failed(breaker, "away", now)
        pause = min(MAX_PAUSE_S, 2 * pause)
        assert breaker.until - now == pause
