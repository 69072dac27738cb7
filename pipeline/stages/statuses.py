"""The commit's status at its forge: pending at once, what it waits for, then the verdict.

It is retried, and never in a run's way.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from pipeline.domain import failsafe
from pipeline.domain.errors import InfraError, TransientError
from pipeline.domain.projects import Project
from pipeline.domain.runs import HELD, Run, RunState, StageName, StatusReport, Verdict
from pipeline.domain.texts import brief, cut
from pipeline.envs.books import Books, Loaded
from pipeline.ports.common import Clock, Ids
from pipeline.ports.forges import CommitStatus, Forge, StatusState
from pipeline.ports.secrets import Secrets
from pipeline.stages.context import host_of, project_token

log = logging.getLogger(__name__)
#: After so many failed tries the forge is given up, and the run says so.
MAX_TRIES = 12
#: A status that is being reported is left alone for so long; a forge that hangs must not occupy every worker.
REPORTING_S = 20.0
#: Where a forge's API is, when a project names none, by the host of the repositories that belong to it.
PUBLIC_HOSTS = {"github": "github.com", "gitlab": "gitlab.com", "bitbucket": "bitbucket.org"}
#: Characters that every forge takes; GitHub refuses more.
MOST = 140
STATES = {
    Verdict.PASSED: StatusState.SUCCESS,
    Verdict.FAILED: StatusState.FAILURE,
    Verdict.ERROR: StatusState.ERROR,
    Verdict.CANCELLED: StatusState.ERROR,
    Verdict.SUPERSEDED: StatusState.ERROR,
}


def wanted(run: Run) -> str:
    """What the forge should show now: a status, and `/held` when it is to say how to log in, or what it waits for."""
    if run.verdict is not None and run.state in {RunState.FINISHING, RunState.FINISHED}:
        return STATES[run.verdict].value + ("/held" if _hold(run) else "")
    waits = run.awaits_environment and run.hindrance
    return StatusState.PENDING.value + (f"/{run.hindrance}" if waits else "")


def _hold(run: Run) -> str:
    """Until when its nodes are held, if they are."""
    attempts = run.stage(StageName.DESTROY).attempts
    return attempts[-1].reason if attempts and attempts[-1].code == HELD else ""


def reporting(run: Run) -> str:
    """The token of whoever reports a run's status."""
    return f"{run.id}.status.{wanted(run)}.{run.status.tries}"


def with_status_due(old: Run | None, run: Run, now: float) -> Run:
    """The run with a report due at once, if its forge keeps statuses and shows another one."""
    if not run.trigger.slug or run.status.sent == wanted(run):
        return run
    if old is not None and wanted(old) == wanted(run):
        return run
    return replace(run, status=StatusReport(sent=run.status.sent, due_at=now))


class Statuses:
    """Tells forges; any number of workers at once."""

    def __init__(
        self, books: Books, forges: Mapping[str, Forge], secrets: Secrets, clock: Clock, ids: Ids, public_url: str
    ) -> None:
        self._books = books
        self._forges = forges
        self._secrets = secrets
        self._clock = clock
        self._ids = ids
        self._public_url = public_url.rstrip("/")

    def report(self, run_id: str) -> None:
        """Send what is due, and note what came of it."""
        loaded = self._books.runs.get(run_id)
        run = loaded.value
        if run.status.due_at is None:
            return
        state = wanted(run)
        self._books.store.beat(reporting(run), REPORTING_S)
        try:
            self._send(run, state)
            report = StatusReport(sent=state)
        except InfraError as error:
            report = self._after(run, state, error)
        self._books.again(lambda: self._note(run_id, report))

    def _send(self, run: Run, state: str) -> None:
        project = self._books.projects.find(run.project)
        token = project_token(self._books, self._secrets, run.project, run.trigger.repository)
        forge = run.trigger.forge
        if project is None or token is None or forge not in self._forges or not is_its_forge(project.value, forge):
            return
        status = CommitStatus(
            slug=run.trigger.slug,
            sha=run.trigger.sha,
            state=StatusState(state.partition("/")[0]),
            description=describe(run, self._waits(run)),
            url=f"{self._public_url}/v1/runs/{run.id}",
        )
        self._forges[forge].report(status, project.value.api_url, token)

    def _waits(self, run: Run) -> str:
        """Why its environment waits, if it does."""
        if not (run.awaits_environment and run.hindrance):
            return ""
        environment = self._books.environments.find(run.environment_id)
        return environment.value.reason if environment is not None and environment.value.wait is not None else ""

    def _after(self, run: Run, state: str, error: InfraError) -> StatusReport:
        tries = run.status.tries + 1
        if isinstance(error, TransientError) and tries < MAX_TRIES:
            due = self._clock.now() + failsafe.backoff(tries, self._ids.dice())
            return StatusReport(sent=run.status.sent, tries=tries, due_at=due, fault=str(error))
        log.warning("run %s: status %s was not taken: %s", run.id, state, error)
        return StatusReport(sent=state, tries=tries, fault=str(error))

    def _note(self, run_id: str, report: StatusReport) -> None:
        """Keep the outcome, unless the run moved on meanwhile and wants another status sent."""
        loaded: Loaded[Run] = self._books.runs.get(run_id)
        run = loaded.value
        if report.due_at is None and report.sent != wanted(run):
            report = replace(report, due_at=self._clock.now())
        noted = replace(run, status=report)
        self._books.commit(self._books.runs.kind.put(run_id, noted, loaded.version))


def is_its_forge(project: Project, forge: str) -> bool:
    """Whether a token of the project may go to this forge's API: to a named one, else to its repository's own."""
    return bool(project.api_url) or PUBLIC_HOSTS.get(forge) == host_of(project.repository)


def describe(run: Run, waits: str = "") -> str:
    """One line of at most 140 characters; `waits` is why its environment waits, if it does."""
    if run.verdict is None:
        return cut(brief(waits), MOST) if waits else f"{run.id} is {run.state}"
    held = f", {_hold(run)} (greenroom ssh {run.id})" if _hold(run) else ""
    text = f"{run.verdict}{held}" + (f": {run.reason}" if run.reason else "")
    return cut(text.splitlines()[0], MOST)
