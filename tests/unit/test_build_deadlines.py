"""How far a build is, what it may take, and what settings say of that."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.domain.milestones import Deadlines, Milestone, Progress, advanced, overdue
from pipeline.settings import ProviderSettings


def test_a_wait_is_as_old_as_the_first_look_that_showed_it() -> None:
    began = advanced(None, Milestone.ACCEPTED, 10.0, 12.0)
    assert began == Progress(Milestone.ACCEPTED, 10.0)
    active = advanced(began, Milestone.ACTIVE, 10.0, 15.0)
    assert active == Progress(Milestone.ACTIVE, 15.0)
    assert advanced(active, Milestone.ACTIVE, 10.0, 20.0) is active


@pytest.mark.parametrize(
    ("milestone", "now", "told"),
    [
        (Milestone.ACCEPTED, 25.0, ""),
        (Milestone.ACCEPTED, 25.1, "not accepted after 5 s"),
        (Milestone.ACTIVE, 60.0, ""),
        (Milestone.ANSWERING, 50.1, "not answering after 30 s"),
        (Milestone.ACTIVE, 100.1, "not ready after 90 s"),
    ],
)
def test_what_took_too_long_is_told(milestone: Milestone, now: float, told: str) -> None:
    """The build began at 10, this wait at 20."""
    assert overdue(Deadlines(90.0, accepted=5.0, answering=30.0), 10.0, Progress(milestone, 20.0), now) == told


def test_no_way_may_be_longer_than_the_whole() -> None:
    with pytest.raises(ValidationError, match="active_s is longer than build_s, 60, in which all has to be over"):
        ProviderSettings(driver="memory", build_s=60, active_s=61)
    assert ProviderSettings(driver="memory", build_s=60, active_s=60).deadlines() == Deadlines(60, active=60)
