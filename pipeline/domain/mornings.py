"""Morning reports: what became of a service's runs since a moment, held against the runs before."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.domain.flakiness import Flaky, NewFailure, Past, flaky, key_of, name_of, new_failures
from pipeline.domain.runs import Verdict
from pipeline.domain.schedules import Due, Schedule

#: Of each list, so many are told.
TOLD = 10
SLOWEST = 5
#: The verdicts of runs that say something about the product or our side, in the order in which they are told.
COUNTED = (Verdict.PASSED, Verdict.FAILED, Verdict.ERROR)


@dataclass(frozen=True)
class BadRun:
    """A run that did not pass."""

    run: str
    branch: str
    sha: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True)
class Slow:
    """A test or a stage at its slowest."""

    name: str
    seconds: float
    run: str


@dataclass(frozen=True)
class ServiceReport:
    """One service; `verdicts` counts its runs. The lists are cut, `TOLD` or `SLOWEST` long at most."""

    project: str
    service: str
    verdicts: Mapping[Verdict, int]
    bad_runs: tuple[BadRun, ...]
    new_failures: tuple[NewFailure, ...]
    flaky: tuple[Flaky, ...]
    slowest_tests: tuple[Slow, ...]
    slowest_stages: tuple[Slow, ...]

    @property
    def runs(self) -> int:
        return sum(self.verdicts.values())


@dataclass(frozen=True)
class MorningReport:
    """All services that ran lately, and schedules whose last due time started nothing.

    `whole`: nothing was left out because there was too much of it.
    """

    since: float
    until: float
    services: tuple[ServiceReport, ...]
    whole: bool = True
    not_started: tuple[Schedule, ...] = ()


def report(pasts: Iterable[Past], since: float, until: float, *, whole: bool = True) -> MorningReport:
    """A section for each service of `pasts`, runs that ended before `since` as well: one that did not run is news."""
    by_service: dict[tuple[str, str], list[Past]] = defaultdict(list)
    for past in sorted(pasts, key=lambda past: (past.run.created_at, past.run.id)):
        by_service[past.service].append(past)
    sections = (_section(name, found, since) for name, found in sorted(by_service.items()))
    return MorningReport(since, until, tuple(sections), whole)


def not_started(schedules: Iterable[Schedule], since: float) -> tuple[Schedule, ...]:
    """Those whose last due time was since then and started no run: it was missed, or the run before it went on."""
    return tuple(one for one in schedules if one.last not in {None, Due.STARTED} and (one.last_due_at or 0.0) >= since)


def _section(name: tuple[str, str], pasts: Sequence[Past], since: float) -> ServiceReport:
    lately = [past for past in pasts if past.ended_at >= since]
    counts = Counter(past.run.verdict for past in lately)
    return ServiceReport(
        *name,
        {verdict: counts[verdict] for verdict in Verdict if counts[verdict] or verdict in COUNTED},
        tuple(_bad_runs(lately))[:TOLD],
        tuple(new_failures(pasts, since))[:TOLD],
        tuple(flaky(pasts))[:TOLD],
        _slowest((name_of(key_of(case)), case.time_s, past.run.id) for past in lately for case in past.cases),
        _slowest((stage.name, stage.seconds or 0.0, past.run.id) for past in lately for stage in past.run.stages),
    )


def _bad_runs(lately: Sequence[Past]) -> Iterator[BadRun]:
    """The newest first."""
    for past in reversed(lately):
        run = past.run
        if run.verdict in {Verdict.FAILED, Verdict.ERROR}:
            yield BadRun(run.id, past.branch, run.trigger.sha, run.verdict, run.reason)


def _slowest(found: Iterable[tuple[str, float, str]]) -> tuple[Slow, ...]:
    """Each name once, at its slowest."""
    worst: dict[str, Slow] = {}
    for name, seconds, run in found:
        if seconds > 0 and (name not in worst or seconds > worst[name].seconds):
            worst[name] = Slow(name, seconds, run)
    return tuple(sorted(worst.values(), key=lambda one: (-one.seconds, one.name))[:SLOWEST])
