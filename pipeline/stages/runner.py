"""Attempts: taken, done, ended, each with one guarded write; whoever lost an attempt can change nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from pipeline.domain import failsafe, runs
from pipeline.domain.errors import GreenroomError, InfraError, StageFailed, UserError
from pipeline.domain.failsafe import GiveUp, OpenBreaker, RetryAt, WaitForCapacity
from pipeline.domain.runs import Outcome, Run, RunState, StageName, StageState
from pipeline.envs import events, jobs
from pipeline.envs.books import Loaded
from pipeline.envs.lifecycle import judgeable
from pipeline.ports.common import LimitExceeded
from pipeline.ports.stores import Event, Fence, JobRequest, Put
from pipeline.stages import configure, deliver, deploy, destroy, handover, test
from pipeline.stages.context import Answer, Decision, Done, Stage, Tools, Waiting, line
from pipeline.stages.losses import judged, spoiled
from pipeline.stages.statuses import with_status_due

log = logging.getLogger(__name__)
#: A worker's sign of life stands this long, in seconds; it is renewed three times in that span.
BEAT_TTL_S = 6.0

Handler = Callable[[Stage], Answer | Decision | None]
START: Mapping[StageName, Handler] = {
    StageName.DELIVER: deliver.start,
    StageName.CONFIGURE: configure.start,
    StageName.DEPLOY: deploy.start,
    StageName.TEST: test.start,
    StageName.DESTROY: destroy.start,
}
RESUME: Mapping[StageName, Handler] = {
    StageName.DELIVER: deliver.resume,
    StageName.DESTROY: destroy.resume,
}
#: Keeps the worker's sign of life while a stage works: run id, stage, token.
Pulse = Callable[[str, StageName, str], AbstractContextManager[None]]


@dataclass(frozen=True)
class _Claim:
    stage: Stage
    token: str


class Runner:
    """Does attempts; any number of workers at once."""

    def __init__(self, tools: Tools, pulse: Pulse) -> None:
        self._tools = tools
        self._books = tools.books
        self._pulse = pulse

    def run_attempt(self, run_id: str, name: StageName, number: int) -> None:
        """Do one queued attempt to its end or until it waits; nothing when somebody else has it."""
        claim = self._books.again(lambda: self._claim(run_id, name, number))
        if claim is None:
            return
        # what only writes in the books is over long before its first sign of life lapses
        pulse = self._pulse(run_id, name, claim.token) if jobs.reaches_nodes(claim.stage.run, name) else nullcontext()
        with pulse:
            answer = self._perform(claim.stage, START[name])
            self._books.again(lambda: self._record(claim, answer))

    def wake(self, run_id: str) -> None:
        """Go on with a waiting attempt whose environment is settled, if it is."""
        claim = self._books.again(lambda: self._claim_waiting(run_id))
        if claim is None:
            return
        answer = self._perform(claim.stage, RESUME[claim.stage.name])
        self._books.again(lambda: self._record(claim, answer))

    def _claim(self, run_id: str, name: StageName, number: int) -> _Claim | None:
        loaded, token, now = self._books.runs.get(run_id), self._tools.ids.token(), self._tools.clock.now()
        taken = runs.start_attempt(loaded.value, name, number, token, now)
        if taken is None:
            return None
        self._books.store.beat(token, BEAT_TTL_S)
        self._save(loaded, taken)
        return self._claimed(taken, name, token)

    def _claim_waiting(self, run_id: str) -> _Claim | None:
        loaded, token = self._books.runs.get(run_id), self._tools.ids.token()
        if loaded.value.current is None:
            return None
        stage, attempt = loaded.value.current
        if not attempt.is_to_ask_again(self._tools.clock.now()) and not self._settled(loaded.value):
            return None
        woken = runs.wake_attempt(loaded.value, stage.name, attempt.number, token)
        if woken is None:
            return None
        self._books.store.beat(token, BEAT_TTL_S)
        self._save(loaded, woken)
        return self._claimed(woken, stage.name, token)

    def _settled(self, run: Run) -> bool:
        environment = self._books.environments.find(run.environment_id)
        return environment is None or judgeable(environment.value, run.id)

    def _claimed(self, run: Run, name: StageName, token: str) -> _Claim:
        return _Claim(Stage(self._tools, run, name, runs.held_by(run, name, token)), token)

    def _perform(self, stage: Stage, handler: Handler) -> Answer | Decision | GreenroomError | None:
        """Do the work, unless nodes were lost: before it, or meanwhile, whatever it says."""
        lost = spoiled(stage)
        answer = self._answer(stage, handler) if lost is None else lost
        return spoiled(stage) or answer

    def _answer(self, stage: Stage, handler: Handler) -> Answer | Decision | GreenroomError | None:
        """Do the work; what went wrong becomes an answer, sorted by who is at fault."""
        try:
            return handler(stage)
        except StageFailed as error:
            return Outcome(StageState.FAILED, str(error), error.code)
        except LimitExceeded as error:
            return Outcome(StageState.FAILED, str(error), f"limit-{error.which}")
        except UserError as error:
            return Outcome(StageState.FAILED, str(error), error.code)
        except InfraError as error:
            final = judged(stage, error)
            _say(stage, f"{final.code} error: {final}")
            return final
        except GreenroomError as error:
            _say(stage, f"{error.code} error: {error}")
            return Outcome(StageState.ERROR, str(error), error.code)
        except Exception as error:  # the attempt must end with a verdict; the whole text goes to the log
            log.exception("run %s: stage %s broke", stage.run.id, stage.name)
            _say(stage, f"internal error: {error!r}")
            return Outcome(StageState.ERROR, f"internal error: {error!r}; see the worker's log", "internal")

    def _record(self, claim: _Claim, answer: Answer | Decision | GreenroomError | None) -> None:
        """Write what came of an attempt; StaleAttempt when it is not ours any more."""
        if callable(answer):
            answer = answer()
        loaded, name, now = self._books.runs.get(claim.stage.run.id), claim.stage.name, self._tools.clock.now()
        run = loaded.value
        if isinstance(answer, Waiting):
            waits = runs.wait_attempt(run, name, claim.token, answer.reason, answer.again_at)
            waiting = replace(waits, environment_id=answer.environment_id)
            self._save(loaded, waiting, answer.writes, answer.events, answer.jobs)
        elif isinstance(answer, Done):
            ended = runs.finish_attempt(answer.change(run), name, claim.token, answer.outcome, now)
            self._save(loaded, ended, answer.writes, answer.events, answer.jobs)
        elif isinstance(answer, Outcome):
            self._save(loaded, runs.finish_attempt(run, name, claim.token, answer, now))
        elif answer is None:
            self._save(loaded, runs.wait_attempt(run, name, claim.token))
        else:
            self._save(loaded, self._after_error(run, name, claim.token, answer))

    def _after_error(self, run: Run, name: StageName, token: str, error: GreenroomError) -> Run:
        now = self._tools.clock.now()
        tries = sum(attempt.code == error.code for attempt in run.stage(name).attempts) + 1
        outcome = Outcome(StageState.ERROR, str(error), error.code)
        match failsafe.decide(error, tries, now, self._tools.ids.dice()):
            case RetryAt(at=at) | WaitForCapacity(at=at) | OpenBreaker(at=at):
                return runs.retry_attempt(run, name, token, outcome, now, at)
            case GiveUp():
                return runs.finish_attempt(run, name, token, outcome, now)

    def _save(
        self,
        loaded: Loaded[Run],
        run: Run,
        writes: tuple[Put, ...] = (),
        told: tuple[Event, ...] = (),
        work: tuple[JobRequest, ...] = (),
    ) -> None:
        save_run(self._tools, loaded, run, writes, told, work)


def _say(stage: Stage, text: str) -> None:
    with stage.sink() as sink:
        line(sink, text)


def save_run(
    tools: Tools,
    loaded: Loaded[Run] | None,
    run: Run,
    writes: tuple[Put, ...] = (),
    told: tuple[Event, ...] = (),
    work: tuple[JobRequest, ...] = (),
    fence: Fence | None = None,
) -> None:
    """Write a run with its events and the jobs that its new state asks for, in one commit."""
    now = tools.clock.now()
    old = loaded.value if loaded is not None else None
    run = with_status_due(old, run, now)
    put = tools.books.runs.kind.put(run.id, run, loaded.version if loaded is not None else 0)
    handed = handover.of(tools.books, old, run, now)
    told_all = [*events.of_run(old, run, now), *told, *handed.events]
    work_all = [*work, *next_jobs(old, run, now), *handed.jobs]
    tools.books.commit(put, *writes, *handed.writes, events=told_all, jobs=work_all, fence=fence)


def next_jobs(old: Run | None, run: Run, now: float) -> list[JobRequest]:
    """The jobs that a run's new state asks for."""
    wanted: list[JobRequest] = []
    if run.current is not None:
        stage, attempt = run.current
        known = old is not None and old.current is not None and old.current[1] == attempt
        if attempt.state is runs.AttemptState.QUEUED and attempt.not_before <= now and not known:
            wanted.append(jobs.stage(run, stage.name, attempt.number))
    if run.state is RunState.FINISHED or old is None:
        wanted.append(jobs.ADMIT)
    if run.status.due_at is not None and run.status.due_at <= now and (old is None or old.status != run.status):
        wanted.append(jobs.report(run))
    return wanted
