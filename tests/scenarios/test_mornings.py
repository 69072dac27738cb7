"""The morning report of a whole deployment."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.errors import NotFound
from pipeline.domain.reports import CaseStatus, TestCase, TestReport
from pipeline.domain.runs import Run, RunState, TestCounts, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs.books import REPORTS, RUNS
from pipeline.stages import mornings
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World

DAY = 86_400.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return usual_world(tmp_path)


def run_of_shop(world: World) -> Run:
    """A push that is through."""
    world.push("shop", USUAL)
    world.advance(30)
    return world.all_runs()[-1]


def test_runs_tests_and_stages_are_read_from_the_books(world: World) -> None:
    world.commands.insert(0, (re.compile(r"\./check"), lambda _: world.clock.sleep(5.0)))
    first = run_of_shop(world)
    judge(world, first, CaseStatus.PASSED)
    world.clock.sleep(2 * DAY)
    second = run_of_shop(world)
    judge(world, second, CaseStatus.FAILED)
    (shop,) = world.mornings.report(DAY).services
    assert (shop.service, shop.verdicts[Verdict.PASSED]) == ("shop", 1)
    assert [(one.test, one.run, one.passed_in) for one in shop.new_failures] == [("C::t", second.id, first.id)]
    assert [one.run for one in shop.slowest_tests] == [second.id]
    assert [(one.name, one.seconds) for one in shop.slowest_stages] == [("test", 5.0)]


def judge(world: World, run: Run, status: CaseStatus) -> None:
    """As its test stage would have reported."""
    loaded = world.books.runs.get(run.id)
    counted = replace(loaded.value, tests=TestCounts(passed=1))
    report = TestReport((TestCase("s", "C", "t", status, 1.5),))
    kept = REPORTS.put(f"{run.id}.1.test-1-1", report, 0, indexes={f"reports:{run.id}": 1})
    world.books.commit(RUNS.put(run.id, counted, loaded.version), kept)


def test_what_is_older_than_a_week_before_is_not_looked_at(world: World) -> None:
    run_of_shop(world)
    world.clock.sleep(7.5 * DAY)
    assert [one.runs for one in world.mornings.report(DAY).services] == [0]
    world.clock.sleep(1 * DAY)
    assert world.mornings.report(DAY).services == ()


def test_a_service_that_nobody_knows_is_told_with_the_nearest(world: World) -> None:
    with pytest.raises(NotFound, match="there are none yet"):
        world.mornings.report(DAY, "shop")
    run_of_shop(world)
    with pytest.raises(NotFound, match=r"'shpo' ended lately; did you mean shop\?"):
        world.mornings.report(DAY, "shpo")
    assert [one.service for one in world.mornings.report(DAY, "shop").services] == ["shop"]


def test_too_much_is_cut_and_said_to_be(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mornings, "MOST", 5)
    monkeypatch.setattr(mornings, "ROUND", 2)
    trigger = Trigger(TriggerKind.API, "plain", "/srv/shop.git", "1" * 40, branch="main")
    for number in range(5):
        at = world.clock.now() - number
        one = Run(f"run-{number}", "shop", trigger, RunState.FINISHED, at, verdict=Verdict.ERROR, finished_at=at)
        world.books.commit(RUNS.put(one.id, one, 0))
    found = world.mornings.report(DAY)
    assert (found.whole, [one.runs for one in found.services]) == (True, [5])
    more = Run("run-9", "shop", trigger, RunState.FINISHED, 1.0, verdict=Verdict.ERROR, finished_at=world.clock.now())
    world.books.commit(RUNS.put(more.id, more, 0))
    found = world.mornings.report(DAY)
    assert (found.whole, [one.runs for one in found.services]) == (False, [5])
