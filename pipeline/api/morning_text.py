"""A morning report as plain text: the body of a mail, whatever shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pipeline.domain.flakiness import Flaky, NewFailure
from pipeline.domain.moments import to_the_minute
from pipeline.domain.mornings import BadRun, MorningReport, ServiceReport, Slow
from pipeline.domain.schedules import Schedule
from pipeline.domain.texts import cut

#: Columns of a reason or a message; a name is not cut, since it is searched for.
WIDTH = 100
NOTHING = "No run ended in this time or the week before."
CUT = "There were more runs than are looked at: older ones are left out."


def text(report: MorningReport) -> str:
    """The whole text; the first line is fit to be a mail's subject."""
    lines = [headline(report), f"from {to_the_minute(report.since)} to {to_the_minute(report.until)}", ""]
    if report.not_started:
        lines += ["Not started:", *(f"  {why_not(one)}" for one in report.not_started), ""]
    for service in report.services:
        lines += [*_section(service), ""]
    if not report.services:
        lines += [NOTHING, ""]
    if not report.whole:
        lines += [CUT, ""]
    return "\n".join(lines)


def headline(report: MorningReport) -> str:
    """How it stands, in one line."""
    bad = [one for one in report.services if one.bad_runs]
    failures = sum(len(one.new_failures) for one in report.services)
    runs = sum(one.runs for one in report.services)
    if not bad and report.not_started:
        return f"Greenroom: {_count(len(report.not_started), 'schedule')} started nothing, {_count(runs, 'run')}"
    if not bad:
        return f"Greenroom: nothing failed, {_count(runs, 'run')}" if runs else "Greenroom: no run ended"
    named = ", ".join(title(one) for one in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    told = f"; {_count(failures, 'new failure')}" if failures else ""
    return f"Greenroom: not all passed in {named}{told}"


def title(service: ServiceReport) -> str:
    """`project/service`, or the project and why there is no service."""
    return plain(f"{service.project}/{service.service}" if service.service else f"{service.project} (no greenroom.yml)")


def why_not(one: Schedule) -> str:
    """A schedule whose last due time started no run."""
    due = to_the_minute(one.last_due_at or 0.0)
    return plain(f"{one.id} of {one.project}, {one.spec.branch}, due {due}: {one.last}, {one.last_reason}")


def counts(service: ServiceReport) -> str:
    """`3 passed, 1 failed, 0 error`; or that nothing ran, which is news as well."""
    if not service.runs:
        return "no run ended"
    return ", ".join(f"{count} {verdict}" for verdict, count in service.verdicts.items())


def plain(text: str) -> str:
    """What others wrote, in one line without anything that a terminal or a mail program obeys."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


def _section(service: ServiceReport) -> Iterator[str]:
    yield title(service)
    yield "=" * len(title(service))
    yield counts(service)
    yield from _list("Not passed", map(_bad_run, service.bad_runs))
    yield from _list("New failures", map(_failure, service.new_failures))
    yield from _list("Flaky tests", map(_flaky, service.flaky))
    yield from _list("Slowest tests", map(_slow, service.slowest_tests))
    yield from _list("Slowest stages", map(_slow, service.slowest_stages))


def _list(head: str, entries: Iterable[str]) -> Iterator[str]:
    found = [f"  {entry}" for entry in entries]
    return iter(("", f"{head}:", *found) if found else ())


def _bad_run(one: BadRun) -> str:
    return f"{one.verdict:<6}  {one.run}  {plain(one.branch)} {one.sha[:10]}  {_words(one.reason)}".rstrip()


def _failure(one: NewFailure) -> str:
    where = f"on {plain(one.branch)} since {one.run} ({one.sha[:10]}), passed in {one.passed_in}"
    return f"{plain(one.test)}\n      {where}" + (f"\n      {_words(one.message)}" if one.message else "")


def _flaky(one: Flaky) -> str:
    return f"{plain(one.test)}\n      {one.passed} passed, {one.failed} failed: {plain(one.why)}"


def _slow(one: Slow) -> str:
    return f"{one.seconds:8.1f} s  {plain(one.name)}  in {one.run}"


def _words(text: str) -> str:
    return cut(plain(text), WIDTH)


def _count(number: int, word: str) -> str:
    return f"{number} {word}" + ("" if number == 1 else "s")
