"""What is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.errors import (
    CallsPaused,
    CapacityError,
    GreenroomError,
    InvalidTransition,
    PermanentError,
    StageFailed,
    TransientError,
    UserError,
)
from pipeline.domain.failsafe import (
    BASE_DELAY_S,
    MAX_ATTEMPTS,
    MAX_DELAY_S,
    GiveUp,
    Hold,
    OpenBreaker,
    RetryAt,
    WaitForCapacity,
    backoff,
    decide,
)

DICE = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), DICE)
def test_the_delay_stays_in_its_bounds(tries: int, dice: float) -> None:
    assert 0 < backoff(tries, dice) <= MAX_DELAY_S
    assert backoff(tries + 1, dice) >= backoff(tries, dice)


@pytest.mark.parametrize(("tries", "most"), [(1, 2 * BASE_DELAY_S), (2, 2.0), (4, 8.0), (20, MAX_DELAY_S)])
def test_the_delay_doubles_and_its_jitter_takes_the_whole_range(tries: int, most: float) -> None:
    assert backoff(tries, 0.0) == most
    assert backoff(tries, 0.5) == most / 2
    assert 0 < backoff(tries, 0.999999) < most / 1000


@pytest.mark.parametrize("tries", range(1, MAX_ATTEMPTS + 2))
def test_what_may_pass_is_tried_so_often(tries: int) -> None:
    expected = RetryAt if tries < MAX_ATTEMPTS else GiveUp
    decision = decide(TransientError("away"), tries, 100.0, 0.5)
    assert isinstance(decision, expected)
    assert decision.reason == "away"


@given(st.integers(1, 10_000), DICE)
def test_waiting_for_room_never_ends(tries: int, dice: float) -> None:
    decision = decide(CapacityError("full"), tries, 100.0, dice)
    assert isinstance(decision, WaitForCapacity)
    assert 100.0 <= decision.at <= 100.0 + MAX_DELAY_S


@given(st.integers(1, 10_000), DICE)
def test_a_provider_that_is_left_alone_is_waited_for_however_often(tries: int, dice: float) -> None:
    paused, told = CallsPaused("create calls are paused", 777.0), OpenBreaker(777.0, "create calls are paused")
    assert decide(paused, tries, 100.0, dice) == told
    assert decide(paused, tries, 100.0, dice, taking_back=True) == told


@pytest.mark.parametrize("error", [PermanentError, StageFailed, UserError, InvalidTransition, GreenroomError])
def test_what_does_not_pass_is_given_up_at_once(error: type[GreenroomError]) -> None:
    assert decide(error("no"), 1, 100.0, 0.5) == GiveUp("no")


@given(st.integers(1, 10_000), DICE)
def test_taking_back_is_never_given_up(tries: int, dice: float) -> None:
    again = decide(TransientError("away"), tries, 100.0, dice, taking_back=True)
    assert isinstance(again, RetryAt)
    assert 100.0 <= again.at <= 100.0 + MAX_DELAY_S
    held = decide(PermanentError("credentials"), tries, 100.0, dice, taking_back=True)
    assert held == Hold(100.0 + MAX_DELAY_S, "credentials")
