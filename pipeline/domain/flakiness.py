"""What runs tell of single tests: those that fail now and passed before, and those that one cannot count on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from pipeline.domain.reports import CaseStatus, TestCase, TestReport
from pipeline.domain.runs import Run, StageName, StageState

#: Runs of a service that tell whether a test is flaky.
HISTORY = 20
#: A test that passes and fails in turn so often on one branch is flaky: a break and its repair are two changes.
FLIPS = 3
BAD = frozenset({CaseStatus.FAILED, CaseStatus.ERROR})
#: Suite, class and name: what is the same test in two runs.
TestKey = tuple[str, str, str]


@dataclass(frozen=True)
class Past:
    """One finished run and its test reports."""

    run: Run
    reports: tuple[TestReport, ...] = ()

    @property
    def service(self) -> tuple[str, str]:
        """Project and service; the service is empty where greenroom.yml could not be read."""
        return self.run.project, self.run.blueprint.service if self.run.blueprint else ""

    @property
    def branch(self) -> str:
        return self.run.trigger.branch or self.run.trigger.tag

    @property
    def ended_at(self) -> float:
        return self.run.finished_at or self.run.created_at

    @property
    def on_held_nodes(self) -> bool:
        """Whether it went on where another run had stopped, on nodes that somebody may have repaired meanwhile."""
        return bool(self.run.rerun_of) and self.run.stage(StageName.DELIVER).state is StageState.SKIPPED

    @property
    def cases(self) -> Iterator[TestCase]:
        """All but the skipped ones, which judged nothing."""
        return (case for report in self.reports for case in report.cases if case.status is not CaseStatus.SKIPPED)

    def outcomes(self) -> Mapping[TestKey, TestCase]:
        """Each test once: one that failed anywhere in the run failed."""
        found: dict[TestKey, TestCase] = {}
        for case in self.cases:
            if case.status in BAD or key_of(case) not in found:
                found[key_of(case)] = case
        return found


@dataclass(frozen=True)
class NewFailure:
    """A test that passed in `passed_in` and failed from `run` on."""

    test: str
    branch: str
    run: str
    sha: str
    passed_in: str
    message: str


@dataclass(frozen=True)
class Flaky:
    """A test that one cannot count on; `why` says by which rule."""

    test: str
    passed: int
    failed: int
    why: str


def key_of(case: TestCase) -> TestKey:
    return case.suite, case.classname, case.name


def name_of(key: TestKey) -> str:
    """A test as a person calls it."""
    _, classname, name = key
    return f"{classname}::{name}" if classname else name


def new_failures(pasts: Sequence[Past], since: float) -> Iterator[NewFailure]:
    """Tests that fail now and passed before, branch by branch.

    A test is one when it failed the last time that it ran on a branch, has failed each time since a run that ended at
    `since` or later, and had passed on that branch the time before. One that never passed there is none.
    `pasts` are of one service, oldest first.
    """
    for (branch, key), tries in sorted(_tries(pasts).items()):
        good = max((number for number, (_, case) in enumerate(tries) if case.status not in BAD), default=-1)
        if good < 0 or good == len(tries) - 1:
            continue
        first, case = tries[good + 1]
        if first.ended_at >= since:
            before, _ = tries[good]
            yield NewFailure(name_of(key), branch, first.run.id, first.run.trigger.sha, before.run.id, case.message)


def flaky(pasts: Sequence[Past]) -> Iterator[Flaky]:
    """Tests that pass and fail without a reason in the code, the worst first, by the last `HISTORY` runs of a service.

    A test is flaky when it both passed and failed on the same commit, or when its outcome changed between passed and
    failed at least `FLIPS` times on one branch. Runs on nodes that were held tell nothing of that. `pasts` are of one
    service, oldest first.
    """
    lately = [past for past in pasts if past.reports and not past.on_held_nodes][-HISTORY:]
    why: dict[TestKey, str] = {}
    for (branch, key), tries in _tries(lately).items():
        flips = sum((one.status in BAD) != (other.status in BAD) for (_, one), (_, other) in pairwise(tries))
        if flips >= FLIPS:
            why[key] = f"changed {flips} times on {branch}"
    for key, sha in _both_ways(lately):
        why[key] = f"passed and failed on {sha[:10]}"
    counts = _counts(lately)
    found = [Flaky(name_of(key), counts[key, False], counts[key, True], reason) for key, reason in why.items()]
    yield from sorted(found, key=lambda one: (-min(one.passed, one.failed), one.test))


def _both_ways(pasts: Sequence[Past]) -> Iterator[tuple[TestKey, str]]:
    """Tests and commits on which they passed in one run and failed in another."""
    seen: dict[tuple[TestKey, str], set[bool]] = defaultdict(set)
    for past in pasts:
        for key, case in past.outcomes().items():
            seen[key, past.run.trigger.sha].add(case.status in BAD)
    return (where for where, outcomes in seen.items() if len(outcomes) > 1)


def _counts(pasts: Sequence[Past]) -> Mapping[tuple[TestKey, bool], int]:
    return Counter((key, case.status in BAD) for past in pasts for key, case in past.outcomes().items())


def _tries(pasts: Sequence[Past]) -> Mapping[tuple[str, TestKey], Sequence[tuple[Past, TestCase]]]:
    """What became of each test on each branch, oldest first."""
    found: dict[tuple[str, TestKey], list[tuple[Past, TestCase]]] = defaultdict(list)
    for past in pasts:
        for key, case in past.outcomes().items():
            found[past.branch, key].append((past, case))
    return found
