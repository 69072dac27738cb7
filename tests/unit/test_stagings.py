"""The two slots of a staging: in whatever order things are asked for and told, what holds always."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain import stagings
from pipeline.domain.errors import InvalidTransition
from pipeline.domain.stagings import (
    TRANSITIONS,
    Activity,
    Promotion,
    Slot,
    SlotName,
    SlotState,
    Staging,
    StagingSpec,
)
from pipeline.domain.traffic import Reading

SPEC = StagingSpec("shop", "front.test.example", "web", 8080, watch_s=10, drain_s=5, keep_s=100)
FINE = Reading(sessions=0, answers=100, errors=0, up=1, targets=1)
#: What may come in any order: what people ask for, and what is told of a deployment or promotion of some number.
STEPS = (
    "want",
    "begin",
    "deployed",
    "failed",
    "promote",
    "rollback",
    "checked",
    "give up",
    "switched",
    "watched",
    "bad",
    "drained",
    "take back",
    "late",
    "older",
)
#: What leads to a live slot, so that stories come that far.
ROAD = ("want", "begin", "deployed", "promote", "checked", "switched")  # fmt: skip


@dataclass
class Story:
    """A staging, and what came of each step of it."""

    staging: Staging
    now: float = 0.0

    def step(self, what: str, number: int) -> None:
        """One step; what is not possible now changes nothing."""
        self.now += 1
        with contextlib.suppress(InvalidTransition):
            self.staging = self._acts(number)[what](self.staging)

    def _acts(self, number: int) -> dict[str, Callable[[Staging], Staging]]:
        now = self.now
        return {
            "want": lambda s: stagings.want(s, f"v{now}", "1" * 40, "ada", "", now),
            "older": lambda s: stagings.want(s, "old", "2" * 40, "ada", "", s.last_as_of - 1),
            "begin": lambda s: stagings.begin(s, f"env-{s.wanted.number if s.wanted else 0}"),
            "deployed": lambda s: stagings.deployed(s, s.last_number, "", now),
            "failed": lambda s: stagings.deployed(s, s.last_number, "run-1 failed", now),
            "promote": lambda s: stagings.promote(s, "ada", "", now),
            "rollback": lambda s: stagings.rollback(s, "ada", "", now),
            "checked": lambda s: stagings.checked(s, s.last_number, FINE),
            "give up": lambda s: stagings.give_up(s, s.last_number, "a check failed", now),
            "switched": lambda s: stagings.switched(s, s.last_number, now, 0.01),
            "watched": lambda s: stagings.watched(s, s.last_number, "", now),
            "bad": lambda s: stagings.watched(s, s.last_number, "errors", now),
            "drained": lambda s: stagings.drained(s, s.idle),
            "take back": lambda s: stagings.empty(s, s.idle) if stagings.to_take_back(s, now + 1000) else s,
            "late": lambda s: self._late(s, number),
        }

    def _late(self, s: Staging, number: int) -> Staging:
        """Everything is told once more of an older number; none of it may change anything."""
        old = s.last_number - 1 - number
        told = [
            stagings.deployed(s, old, "", self.now),
            stagings.checked(s, old, FINE),
            stagings.give_up(s, old, "late", self.now),
            stagings.switched(s, old, self.now, 0.01),
            stagings.watched(s, old, "late", self.now),
            stagings.refuse(s, old, "late", self.now),
        ]
        assert all(one == s for one in told if _is_over(s, old))
        return s


def _is_over(s: Staging, number: int) -> bool:
    """Whether a number belongs to nothing that is under way."""
    open_ = [s.wanted.number if s.wanted else 0, s.deploying.number if s.deploying else 0]
    return number not in [*open_, s.promotion.number if s.promotion else 0]


PARTS = st.lists(st.sampled_from(STEPS), max_size=6) | st.just(list(ROAD))


@given(st.lists(PARTS, max_size=20), st.data())
def test_what_holds_always(parts: list[list[str]], data: st.DataObject) -> None:
    story = Story(Staging("front", SPEC, 0.0))
    for what in itertools.chain(*parts):
        number = data.draw(st.integers(0, 3)) if what == "late" else 0
        before = story.staging
        story.step(what, number)
        _check(before, story.staging)


def _check(old: Staging, new: Staging) -> None:
    assert new.activity is old.activity or new.activity in TRANSITIONS[old.activity]
    deploying = [name for name in SlotName if new.slot(name).state is SlotState.DEPLOYING]
    assert len(deploying) == (new.activity is Activity.DEPLOYING), "one deploy at a time"
    assert deploying in ([], [new.idle]), "never to the live slot"
    assert (new.promotion is not None) == (new.activity in {Activity.CHECKING, Activity.SWITCHING, Activity.WATCHING})
    assert new.last_number >= old.last_number
    assert new.last_as_of >= old.last_as_of, "the newest wins"
    if new.wanted is not None and old.wanted is not None:
        assert new.wanted.number >= old.wanted.number
    for name in SlotName:
        _check_slot(old, new, name)


def _check_slot(old: Staging, new: Staging, name: SlotName) -> None:
    was, now = old.slot(name), new.slot(name)
    if now.number and was.number:
        assert now.number >= was.number, "a late event never overwrites a newer one"
    if name is new.live:
        assert now.state is SlotState.PASSED
        assert not now.kept_until
        if old.live is not name:
            assert old.activity is Activity.SWITCHING
    if was.environment and was.environment != now.environment:
        assert was.environment in new.leaving, "what no slot has any more leaves"
        assert name is not old.live, "what is live never leaves"


def _passed(ref: str = "v1") -> Slot:
    return Slot(SlotState.PASSED, f"env-{ref}", 1, ref, "1" * 40, passed_at=1.0)


LIVE = Staging("front", SPEC, 0.0, blue=_passed(), green=_passed("v2"), live=SlotName.BLUE, last_number=7)


@pytest.mark.parametrize(
    ("reading", "at", "verdict"),
    [
        (Reading(0, 110, 5, 1, 1), 5, None),
        (Reading(0, 110, 5, 1, 1), 10, ""),
        (Reading(0, 120, 7, 1, 1), 5, "2 of 20 answers were errors, more than 5.0%"),
        (Reading(0, 110, 7, 1, 1), 5, None),
        (Reading(0, 110, 7, 1, 1), 10, "2 of 10 answers were errors, more than 5.0%"),
        (Reading(0, 100, 5, 1, 1), 10, ""),
        (Reading(0, 100, 5, 0, 2), 1, "none of its 2 nodes is up"),
        (Reading(0, 200, 5, 1, 2), 5, None),
    ],
)
def test_when_a_promotion_is_bad(reading: Reading, at: float, verdict: str | None) -> None:
    promotion = Promotion(7, SlotName.GREEN, "ada", "", 0.0, answers=100, errors=5, switched_at=0.0)
    assert stagings.judge(promotion, SPEC, reading, at) == verdict


def test_a_bad_promotion_goes_back_to_what_was_live() -> None:
    asked = stagings.promote(LIVE, "ada", "", 1.0)
    switched = stagings.switched(stagings.checked(asked, 8, FINE), 8, 2.0, 0.01)
    assert (switched.live, switched.activity, switched.blue.drains_until) == (SlotName.GREEN, Activity.WATCHING, 7.0)
    going = stagings.watched(switched, 8, "errors", 4.0)
    back = stagings.switched(going, 8, 5.0, 0.01)
    assert (back.live, back.activity, back.green.state) == (SlotName.BLUE, Activity.IDLE, SlotState.FAILED)
    assert [entry.what for entry in back.history] == ["promoted", "bad", "went back"]


@pytest.mark.parametrize(
    ("staging", "due"),
    [
        (LIVE, None),
        (replace(LIVE, green=replace(LIVE.green, kept_until=50.0)), 50.0),
        (replace(LIVE, spec=replace(SPEC, keep_warm=True), green=replace(LIVE.green, kept_until=50.0)), None),
        (replace(LIVE, green=replace(LIVE.green, drains_until=5.0, kept_until=50.0)), 0.0),
        (stagings.promote(LIVE, "ada", "", 1.0), 0.0),
        (stagings.want(LIVE, "v3", "3" * 40, "ada", "", 1.0), 0.0),
        (stagings.remove(LIVE), 0.0),
    ],
)
def test_when_the_tick_looks_at_it(staging: Staging, due: float | None) -> None:
    assert stagings.due_at(staging) == due
