"""What is tried again, and when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.errors import (
    CapacityError,
    GreenroomError,
    InvalidTransition,
    PermanentError,
    StageFailed,
    TransientError,
    UserError,
)
from pipeline.domain.failsafe import BASE_DELAY_S, MAX_ATTEMPTS, MAX_DELAY_S, GiveUp, RetryAt, backoff, decide

DICE = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 10_000), DICE)
def test_the_delay_stays_in_its_bounds(tries: int, dice: float) -> None:
    assert BASE_DELAY_S <= backoff(tries, dice) <= MAX_DELAY_S
    assert backoff(tries + 1, dice) >= backoff(tries, dice)


@pytest.mark.parametrize(("tries", "least", "most"), [(1, 0.5, 1.0), (2, 1.0, 2.0), (4, 4.0, 8.0), (20, 30.0, 60.0)])
def test_the_delay_doubles_with_jitter(tries: int, least: float, most: float) -> None:
    assert backoff(tries, 0.0) == least
    assert least < backoff(tries, 0.5) < most
    assert backoff(tries, 1.0) == most


@pytest.mark.parametrize("tries", range(1, MAX_ATTEMPTS + 2))
def test_what_may_pass_is_tried_so_often(tries: int) -> None:
    expected = RetryAt if tries < MAX_ATTEMPTS else GiveUp
    assert isinstance(decide(TransientError("away"), tries, 100.0, 0.5), expected)


@given(st.integers(1, 10_000), DICE)
def test_waiting_for_room_never_ends(tries: int, dice: float) -> None:
    decision = decide(CapacityError("full"), tries, 100.0, dice)
    assert isinstance(decision, RetryAt)
    assert 100.0 < decision.at <= 100.0 + MAX_DELAY_S


@pytest.mark.parametrize("error", [PermanentError, StageFailed, UserError, InvalidTransition, GreenroomError])
def test_what_does_not_pass_is_given_up_at_once(error: type[GreenroomError]) -> None:
    assert decide(error("no"), 1, 100.0, 0.5) == GiveUp()
