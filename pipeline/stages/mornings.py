"""Morning reports: the finished runs of the last days, read from the books."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from pipeline.domain.errors import NotFound
from pipeline.domain.flakiness import Past
from pipeline.domain.mornings import MorningReport, not_started, report
from pipeline.domain.reports import TestReport
from pipeline.domain.runs import Run
from pipeline.domain.schedules import Schedule
from pipeline.envs.books import Books
from pipeline.ports.common import Clock

#: What a report is held against: the runs of so many seconds before it.
BEFORE_S = 7 * 86_400.0
#: Runs that are looked at in all, and in one go.
MOST = 2000
ROUND = 200


@dataclass(frozen=True)
class Mornings:
    """Any number of processes at once; reads only."""

    books: Books
    clock: Clock

    def report(self, since_s: float, service: str = "") -> MorningReport:
        """What became of all runs, or those of a service, that ended in the last `since_s` seconds. NotFound."""
        now = self.clock.now()
        runs = self._ended(now - since_s - BEFORE_S)
        pasts = [Past(run) for run in runs[:MOST]]
        chosen = [past for past in pasts if not service or past.service[1] == service]
        if service and not chosen:
            raise NotFound(f"no run of a service {service[:80]!r} ended lately{_hint(service, pasts)}")
        read = [replace(past, reports=self._reports(past.run)) for past in chosen]
        found = report(read, now - since_s, now, whole=len(runs) <= MOST)
        return replace(found, not_started=self._not_started(found, everywhere=not service))

    def _not_started(self, found: MorningReport, *, everywhere: bool) -> tuple[Schedule, ...]:
        """Of all projects, or of those that the report has."""
        projects = {one.project for one in found.services}
        known = (loaded.value for loaded in self.books.schedules.everything("schedules"))
        return not_started((one for one in known if everywhere or one.project in projects), found.since)

    def _ended(self, since: float) -> Sequence[Run]:
        """Finished runs, the newest first; one more than `MOST` where there are more."""
        found: dict[str, Run] = {}  # while pages are read, runs that end move what was read onto the next one
        for run in self._newest():
            if (run.finished_at or run.created_at) < since or len(found) > MOST:
                break
            found[run.id] = run
        return list(found.values())

    def _newest(self) -> Iterator[Run]:
        offset = 0
        while ids := self.books.store.index("runs:finished", limit=ROUND, offset=offset, newest_first=True):
            yield from (loaded.value for loaded in self.books.runs.many(ids))
            offset += ROUND

    def _reports(self, run: Run) -> tuple[TestReport, ...]:
        if not run.tests.total:
            return ()
        names = self.books.store.index(f"reports:{run.id}")
        return tuple(loaded.value for loaded in self.books.reports.many(names))


def _hint(service: str, pasts: Sequence[Past]) -> str:
    names = sorted({past.service[1] for past in pasts if past.service[1]})
    near = difflib.get_close_matches(service, names, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    return f"; there are: {', '.join(names[:30])}" if names else "; there are none yet"
