"""Morning reports as values, as text and as a page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.api.morning_page import page
from pipeline.api.morning_text import headline, text
from pipeline.domain.blueprint import Blueprint, EnvironmentSpec, RoleSpec, ScheduleSpec
from pipeline.domain.flakiness import FLIPS, HISTORY, Past, flaky, new_failures
from pipeline.domain.mornings import MorningReport, not_started, report
from pipeline.domain.reports import CaseStatus, TestCase, TestReport
from pipeline.domain.runs import Attempt, AttemptState, Run, RunState, StageName, StageState, Verdict
from pipeline.domain.schedules import Due, Source, new
from pipeline.domain.triggers import Trigger, TriggerKind

SHOP = Blueprint("shop", EnvironmentSpec("debian-12", (RoleSpec("web"),)))
SINCE = 1000.0
OUTCOMES: Mapping[str, CaseStatus] = {
    "+": CaseStatus.PASSED,
    "-": CaseStatus.FAILED,
    "!": CaseStatus.ERROR,
    "o": CaseStatus.SKIPPED,
}


def past(number: int, *cases: TestCase, branch: str = "main", sha: str = "", ended_at: float | None = None) -> Past:
    """The run of that number, which ended at ten times as many seconds."""
    bad = any(case.status in {CaseStatus.FAILED, CaseStatus.ERROR} for case in cases)
    commit = sha or f"{number:040x}"
    run = Run(
        f"run-{number}",
        "team",
        Trigger(TriggerKind.PUSH, "plain", "/srv/shop.git", commit, branch=branch),
        RunState.FINISHED,
        created_at=number * 10.0,
        finished_at=number * 10.0 if ended_at is None else ended_at,
        blueprint=SHOP,
        verdict=Verdict.FAILED if bad else Verdict.PASSED,
        reason="test: it is broken" if bad else "",
    )
    return Past(run, (TestReport(tuple(cases)),))


def case(sign: str, name: str = "t", time_s: float = 0.0, message: str = "") -> TestCase:
    return TestCase("s", "C", name, OUTCOMES[sign], time_s, message)


def history(signs: str, *, branch: str = "main", first: int = 90) -> list[Past]:
    """Runs of one test, oldest first; those from number 100 on are of today."""
    return [past(first + number, case(sign), branch=branch) for number, sign in enumerate(signs)]


def test_runs_are_counted_since_the_moment() -> None:
    (shop,) = report([past(99), past(100), past(101, case("-")), past(102)], SINCE, 2000.0).services
    assert (shop.project, shop.service, shop.runs) == ("team", "shop", 3)
    assert shop.verdicts == {Verdict.PASSED: 2, Verdict.FAILED: 1, Verdict.ERROR: 0}
    assert [(one.run, one.reason) for one in shop.bad_runs] == [("run-101", "test: it is broken")]


def test_a_service_that_did_not_run_is_told_and_so_is_one_without_a_file() -> None:
    unread = past(101)
    unread = Past(replace(unread.run, blueprint=None, verdict=Verdict.FAILED, reason="no greenroom.yml"))
    found = report([past(50), unread], SINCE, 2000.0)
    assert [(one.service, one.runs) for one in found.services] == [("", 1), ("shop", 0)]
    assert "no run ended" in text(found)
    assert "team (no greenroom.yml)" in text(found)


@pytest.mark.parametrize(
    ("signs", "first", "expected"),
    [
        ("+-", 99, ["run-100"]),
        ("+--", 99, ["run-100"]),
        ("+!", 99, ["run-100"]),
        ("+o-", 99, ["run-101"]),
        ("+-o", 99, ["run-100"]),
        ("+-+", 99, []),
        ("-+-", 99, ["run-101"]),
        ("--", 99, []),
        ("-", 100, []),
        ("+--", 98, []),
        ("+++", 99, []),
    ],
)
def test_new_failures_fail_now_and_passed_before(signs: str, first: int, expected: list[str]) -> None:
    assert [one.run for one in new_failures(history(signs, first=first), SINCE)] == expected


def test_a_new_failure_is_one_of_its_branch() -> None:
    runs = sorted([*history("+-", first=99), *history("++", branch="side", first=100)], key=lambda one: one.ended_at)
    (one,) = new_failures(runs, SINCE)
    assert (one.test, one.branch, one.run, one.passed_in) == ("C::t", "main", "run-100", "run-99")
    assert list(new_failures([*history("+", first=99), *history("-", branch="side", first=100)], SINCE)) == []


def test_a_test_that_failed_on_one_node_failed() -> None:
    (one,) = new_failures([past(99, case("+")), past(100, case("-", message="node 1"), case("+"))], SINCE)
    assert one.message == "node 1"


@pytest.mark.parametrize(
    ("signs", "flips"),
    [("+-+", None), ("+-+-", 3), ("-+-+-", 4), ("++--", None), ("+o-o+o-", 3), ("", None)],
)
def test_flaky_tests_change_too_often_on_one_branch(signs: str, flips: int | None) -> None:
    expected = [] if flips is None else [f"changed {flips} times on main"]
    assert [one.why for one in flaky(history(signs))] == expected


def test_flaky_tests_pass_and_fail_on_the_same_commit() -> None:
    runs = [past(100, case("-"), sha="ab" * 20), past(101, case("+"), sha="ab" * 20, branch="other")]
    (one,) = flaky(runs)
    assert (one.test, one.passed, one.failed, one.why) == ("C::t", 1, 1, "passed and failed on ababababab")
    assert list(flaky([past(100, case("-"), sha="ab" * 20), past(101, case("-"), sha="ab" * 20)])) == []


def test_a_run_that_went_on_with_held_nodes_makes_no_test_flaky() -> None:
    failed, passed = past(100, case("-"), sha="ab" * 20), past(101, case("+"), sha="ab" * 20)
    again = replace(passed.run, rerun_of="run-100")
    delivered = replace(again.stage(StageName.DELIVER), state=StageState.SKIPPED)
    assert list(flaky([failed, replace(passed, run=again.with_stage(delivered))])) == []
    assert [one.test for one in flaky([failed, replace(passed, run=again)])] == ["C::t"]


def test_what_was_flaky_long_ago_is_forgotten() -> None:
    assert list(flaky([*history("+-+-", first=1), *history("+" * HISTORY, first=10)])) == []


def test_the_slowest_tests_and_stages_are_told_once_each() -> None:
    slow = [past(100, case("+", "a", 1.0), case("+", "b", 3.0)), past(101, case("+", "a", 5.0), case("+", "c"))]
    attempt = Attempt(1, AttemptState.PASSED, 0.0, started_at=10.0, finished_at=40.0)
    stage = replace(slow[0].run.stage(StageName.DEPLOY), state=StageState.PASSED, attempts=(attempt,))
    slow[0] = replace(slow[0], run=slow[0].run.with_stage(stage))
    (shop,) = report(slow, SINCE, 2000.0).services
    assert [(one.name, one.seconds, one.run) for one in shop.slowest_tests] == [
        ("C::a", 5.0, "run-101"),
        ("C::b", 3.0, "run-100"),
    ]
    assert [(one.name, one.seconds) for one in shop.slowest_stages] == [("deploy", 30.0)]


@given(st.lists(st.text("+-!o", max_size=6), max_size=4), st.integers(90, 105))
def test_every_test_is_told_at_most_once_and_only_for_a_reason(branches: list[str], first: int) -> None:
    runs: list[Past] = []
    for number, signs in enumerate(branches):
        runs += history(signs, branch=f"b{number}", first=first)
    found = list(new_failures(runs, SINCE))
    assert len({one.branch for one in found}) == len(found)
    for one in found:
        judged = branches[int(one.branch[1:])].replace("o", "")
        assert judged[-1] in "-!"
        assert "+" in judged
    shaky = list(flaky(runs))
    assert len(shaky) <= 1
    assert all(one.passed and one.failed for one in shaky)


@given(st.text("+-", max_size=HISTORY))
def test_flips_are_those_between_neighbours(signs: str) -> None:
    flips = signs.count("+-") + signs.count("-+")
    assert bool(list(flaky(history(signs)))) is (flips >= FLIPS)


@pytest.mark.parametrize(
    ("fate", "due_at", "told"),
    [
        (Due.OVERLAPPED, SINCE, True),
        (Due.MISSED, SINCE + 5, True),
        (Due.STARTED, SINCE + 5, False),
        (Due.MISSED, SINCE - 1, False),
        (None, None, False),
    ],
)
def test_schedules_that_started_nothing_are_told(fate: Due | None, due_at: float | None, told: bool) -> None:
    one = new("team", "/srv/shop.git", ScheduleSpec("0 2 * * *", "main"), Source.API, 0.0)
    one = replace(one, last=fate, last_due_at=due_at, last_reason="run-7 is <b>not finished")
    assert not_started([one], SINCE) == ((one,) if told else ())
    shown = replace(report([past(100)], SINCE, 2000.0), not_started=not_started([one], SINCE))
    assert headline(shown) == f"Greenroom: {'1 schedule started nothing' if told else 'nothing failed'}, 1 run"
    assert (one.id in text(shown)) is (one.id in page(shown)) is told
    assert "<b>" not in page(shown)


# As text and as a page

NASTY = "<script>alert(1)</script>\n\x1b[31m\u202eSubject: x & \"y\" 'z'"


def nasty() -> MorningReport:
    """A report in which every text of others tries to be more than text."""
    good, bad = past(100, case("+", NASTY, 2.0), branch=NASTY), past(101, case("-", NASTY, 3.0, NASTY), branch=NASTY)
    bad = replace(bad, run=replace(bad.run, reason=NASTY))
    return report(
        [good, bad, past(102, case("+", NASTY), branch=NASTY), past(103, case("-", NASTY), branch=NASTY)], 0.0, 2000.0
    )


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Sequence[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_page_shows_what_others_wrote_and_obeys_none_of_it() -> None:
    shown, tags = page(nasty()), Tags()
    tags.feed(shown)
    assert tags.open == []
    assert "script" not in tags.seen
    assert shown.count("&lt;script&gt;") >= 5
    for head in ("Not passed", "New failures", "Flaky tests", "Slowest tests"):
        assert head in shown


def test_a_text_is_one_of_plain_lines() -> None:
    told = text(nasty())
    assert re.findall(r"[^\x20-\x7e\n…]", told) == []
    assert told.splitlines()[0] == "Greenroom: not all passed in team/shop; 1 new failure"
    assert all(len(line) < 250 for line in told.splitlines())
    for head in ("Not passed:", "New failures:", "Flaky tests:", "Slowest tests:"):
        assert head in told


def test_the_headline_says_how_it_stands() -> None:
    assert headline(report([past(100)], SINCE, 2000.0)) == "Greenroom: nothing failed, 1 run"
    assert headline(report([past(50)], SINCE, 2000.0)) == "Greenroom: no run ended"
    assert "No run ended" in text(report([], SINCE, 2000.0))
    assert "No run ended" in page(report([], SINCE, 2000.0))
    assert "left out" in text(report([past(100)], SINCE, 2000.0, whole=False))
