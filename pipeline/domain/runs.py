"""Runs: one execution of the five stages for one commit, as data and pure transitions.

A stage is done by numbered attempts. Whoever works on an attempt holds its token; an attempt that was given to somebody
else has another token or is over, so a late write is refused with StaleAttempt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain.blueprint import Blueprint, Priority
from pipeline.domain.errors import InvalidTransition, StaleAttempt
from pipeline.domain.failsafe import MAX_LOST
from pipeline.domain.promises import Measured
from pipeline.domain.triggers import Trigger


class RunState(StrEnum):
    """`finishing`: the verdict is known, and what the run made is being taken back.

    A running one is pending again after its environment was preempted.
    """

    PENDING = "pending"
    RUNNING = "running"
    FINISHING = "finishing"
    FINISHED = "finished"


RUN_TRANSITIONS: Mapping[RunState, frozenset[RunState]] = {
    RunState.PENDING: frozenset({RunState.RUNNING, RunState.FINISHED}),
    RunState.RUNNING: frozenset({RunState.FINISHING, RunState.PENDING}),
    RunState.FINISHING: frozenset({RunState.FINISHED}),
    RunState.FINISHED: frozenset(),
}
ACTIVE_STATES = frozenset({RunState.RUNNING, RunState.FINISHING})


class Verdict(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class StageName(StrEnum):
    DELIVER = "deliver"
    CONFIGURE = "configure"
    DEPLOY = "deploy"
    TEST = "test"
    DESTROY = "destroy"


STAGES = tuple(StageName)
WORK_STAGES = STAGES[:-1]


class StageState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class AttemptState(StrEnum):
    """`waiting`: submitted, and no worker is held until the environment wakes it."""

    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    LOST = "lost"


#: Code of an attempt whose environment was taken back for somebody else.
PREEMPTED = "preempted"
#: Code of a destroy attempt that kept the nodes for debugging; its reason says until when.
HELD = "held"
OPEN_ATTEMPTS = frozenset({AttemptState.QUEUED, AttemptState.RUNNING, AttemptState.WAITING})


@dataclass(frozen=True)
class Attempt:
    """One numbered try of a stage. `token` is held by its worker.

    `not_before` delays a retry; a waiting attempt that has one is woken then.
    """

    number: int
    state: AttemptState
    queued_at: float
    not_before: float = 0.0
    token: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    code: str = ""
    reason: str = ""

    @property
    def open(self) -> bool:
        return self.state in OPEN_ATTEMPTS

    def is_to_ask_again(self, now: float) -> bool:
        """Whether it waits for something that has to be asked for again now."""
        return self.state is AttemptState.WAITING and 0 < self.not_before <= now


@dataclass(frozen=True)
class StageRun:
    """One stage of one run."""

    name: StageName
    state: StageState = StageState.PENDING
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()

    @property
    def current(self) -> Attempt | None:
        return self.attempts[-1] if self.attempts and self.attempts[-1].open else None

    @property
    def seconds(self) -> float | None:
        """From the first attempt's start to the last one's end; None where nothing was begun or ended."""
        starts = [attempt.started_at for attempt in self.attempts if attempt.started_at is not None]
        ends = [attempt.finished_at for attempt in self.attempts if attempt.finished_at is not None]
        return max(ends) - min(starts) if starts and ends else None

    def with_attempt(self, attempt: Attempt) -> StageRun:
        return replace(self, attempts=(*self.attempts[:-1], attempt))


class StopKind(StrEnum):
    CANCEL = "cancelled"
    SUPERSEDE = "superseded"
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Stop:
    """Why a run was told to end before its time. `overrides`: guards that its end is to pass, with the reasons."""

    kind: StopKind
    reason: str
    at: float
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TestCounts:
    """Test cases by outcome, over all reports of the run."""

    __test__ = False  # not a test class, whatever its name

    passed: int = 0
    failed: int = 0
    errors: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.errors + self.skipped


@dataclass(frozen=True)
class StatusReport:
    """What the forge was told last; `due_at` is when to tell it next, None when it knows all."""

    sent: str = ""
    tries: int = 0
    due_at: float | None = None
    fault: str = ""


@dataclass(frozen=True)
class Run:
    """One execution for one commit. Times are seconds since the epoch.

    `measured` is what its tests measured of promises. `preempted` counts how often its environment was taken back for
    somebody else, and it began again. `hindrance` is
    what its environment waits for, as far as the forge should know; empty when it does not wait.

    `nodes`: it prepares these of an environment that stands, and takes nothing back; empty: it has all nodes to itself.
    """

    id: str
    project: str
    trigger: Trigger
    state: RunState
    created_at: float
    blueprint: Blueprint | None = None
    provider: str = ""
    priority: Priority = Priority.PUSH
    stages: tuple[StageRun, ...] = tuple(StageRun(name) for name in STAGES)
    verdict: Verdict | None = None
    reason: str = ""
    environment_id: str = ""
    trigger_id: str = ""
    rerun_of: str = ""
    superseded_by: str = ""
    stop: Stop | None = None
    started_at: float | None = None
    finished_at: float | None = None
    tests: TestCounts = field(default_factory=TestCounts)
    measured: tuple[Measured, ...] = ()
    status: StatusReport = field(default_factory=StatusReport)
    preempted: int = 0
    hindrance: str = ""
    nodes: tuple[str, ...] = ()

    def stage(self, name: StageName) -> StageRun:
        return self.stages[STAGES.index(name)]

    def with_stage(self, stage: StageRun) -> Run:
        return replace(self, stages=tuple(stage if old.name is stage.name else old for old in self.stages))

    def to(self, state: RunState, **changes: object) -> Run:
        if state not in RUN_TRANSITIONS[self.state]:
            raise InvalidTransition(f"run {self.id} is {self.state} and cannot become {state}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]  # dataclasses.replace is not generic in its fields

    @property
    def current(self) -> tuple[StageRun, Attempt] | None:
        """The stage and attempt that is open; at most one is."""
        found = [(stage, stage.current) for stage in self.stages]
        return next(((stage, attempt) for stage, attempt in found if attempt is not None), None)

    @property
    def awaits_environment(self) -> bool:
        """Whether its nodes are requested or on their way, and no worker is held."""
        attempt = self.stage(StageName.DELIVER).current
        return attempt is not None and attempt.state is AttemptState.WAITING

    def works_on(self, node: str) -> bool:
        return not self.nodes or node in self.nodes

    @property
    def plan(self) -> Blueprint:
        """The blueprint of a run that has one; every run that leaves `pending` for `running` has."""
        if self.blueprint is None:
            raise InvalidTransition(f"run {self.id} has no blueprint")
        return self.blueprint


def verdict_of(run: Run) -> tuple[Verdict, str]:
    """The first match in one ordered list; the reason is the deciding stage's."""
    if run.stop is not None and run.stop.kind is not StopKind.TIMEOUT:
        return Verdict(run.stop.kind.value), run.stop.reason
    worked = [stage for stage in run.stages if stage.name is not StageName.DESTROY]
    for stages, state, verdict in (
        (worked, StageState.ERROR, Verdict.ERROR),
        (worked, StageState.FAILED, Verdict.FAILED),
        (run.stages, StageState.ERROR, Verdict.ERROR),
        (run.stages, StageState.FAILED, Verdict.ERROR),
    ):
        for stage in stages:
            if stage.state is state:
                return verdict, f"{stage.name}: {stage.reason}"
    return Verdict.PASSED, ""


def admit(run: Run, now: float) -> Run:
    """A pending run may begin: its first stage that is still to be done is queued."""
    started = run.to(RunState.RUNNING, started_at=now)
    return _queue(started, next_stage(started), now)


def next_stage(run: Run) -> StageName:
    """The first stage that is pending; destroy is always the last."""
    return next((stage.name for stage in run.stages if stage.state is StageState.PENDING), StageName.DESTROY)


def _queue(run: Run, name: StageName, now: float, not_before: float = 0.0) -> Run:
    stage = run.stage(name)
    attempt = Attempt(len(stage.attempts) + 1, AttemptState.QUEUED, queued_at=now, not_before=not_before)
    return run.with_stage(replace(stage, state=StageState.RUNNING, attempts=(*stage.attempts, attempt)))


def start_attempt(run: Run, name: StageName, number: int, token: str, now: float) -> Run | None:
    """Take a queued attempt; None when somebody has it, or it is over."""
    attempt = run.stage(name).current
    if attempt is None or attempt.number != number or attempt.state is not AttemptState.QUEUED:
        return None
    taken = replace(attempt, state=AttemptState.RUNNING, token=token, started_at=now)
    return run.with_stage(run.stage(name).with_attempt(taken))


def held_by(run: Run, name: StageName, token: str) -> Attempt:
    """The open attempt that `token` holds, else StaleAttempt."""
    attempt = run.stage(name).current
    if attempt is None or not token or attempt.token != token:
        raise StaleAttempt(f"{run.id}: this attempt of stage {name} is over; another one has its place")
    return attempt


def wait_attempt(run: Run, name: StageName, token: str, reason: str = "", again_at: float = 0.0) -> Run:
    """The worker lets go, and the attempt waits to be woken: at `again_at` at the latest, unless that is 0.

    `reason` is what it waits for, where that is worth telling.
    """
    attempt = held_by(run, name, token)
    waiting = replace(attempt, state=AttemptState.WAITING, token="", reason=reason, not_before=again_at)
    return run.with_stage(replace(run.stage(name), reason=reason).with_attempt(waiting))


def wake_attempt(run: Run, name: StageName, number: int, token: str) -> Run | None:
    """A worker goes on with a waiting attempt under a new token; None when it does not wait."""
    attempt = run.stage(name).current
    if attempt is None or attempt.number != number or attempt.state is not AttemptState.WAITING:
        return None
    woken = replace(attempt, state=AttemptState.RUNNING, token=token)
    return run.with_stage(run.stage(name).with_attempt(woken))


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: `passed`, `failed`, `error` or, for destroy alone, `skipped` (held)."""

    state: StageState
    reason: str = ""
    code: str = ""


def finish_attempt(run: Run, name: StageName, token: str, outcome: Outcome, now: float) -> Run:
    """End an attempt and queue what comes next, or finish the run."""
    held_by(run, name, token)
    return _advance(_close(run, name, outcome, now), name, now)


def retry_attempt(run: Run, name: StageName, token: str, outcome: Outcome, now: float, at: float) -> Run:
    """End an attempt with an error of ours and queue the next one, not before `at`."""
    attempt = held_by(run, name, token)
    return _queue(_end_attempt(run, name, attempt, AttemptState.ERROR, outcome, now), name, now, not_before=at)


def lose_attempt(run: Run, now: float, reason: str) -> Run:
    """The open attempt lost its worker: queue another, or give the stage up after `MAX_LOST` losses."""
    if run.current is None:
        raise InvalidTransition(f"run {run.id} has no open attempt to lose")
    stage, attempt = run.current
    lost = _end_attempt(run, stage.name, attempt, AttemptState.LOST, Outcome(StageState.ERROR, reason, "lost"), now)
    losses = sum(a.state is AttemptState.LOST for a in lost.stage(stage.name).attempts)
    if losses < MAX_LOST:
        return _queue(lost, stage.name, now)
    given_up = f"the worker was lost {losses} times; the last time: {reason}"
    return _advance(_set_stage(lost, stage.name, StageState.ERROR, given_up), stage.name, now)


def preempt(run: Run, now: float, reason: str) -> Run:
    """Its environment is taken back for somebody else: it waits again, from its first stage on, with new nodes.

    Unchanged when it ends: then it needs its environment no more. One that took nodes over and was not admitted yet
    loses the stages that were done on them, too.
    """
    if run.state not in {RunState.PENDING, RunState.RUNNING}:
        return run
    cut = run
    if run.current is not None:
        stage, attempt = run.current
        outcome = Outcome(StageState.CANCELLED, reason, PREEMPTED)
        cut = _end_attempt(run, stage.name, attempt, AttemptState.CANCELLED, outcome, now)
    again = tuple(replace(stage, state=StageState.PENDING, reason="") for stage in cut.stages)
    fresh = replace(cut, stages=again, environment_id="", started_at=None, tests=TestCounts(), measured=())
    waits = fresh if run.state is RunState.PENDING else fresh.to(RunState.PENDING)
    return replace(waits, reason=reason, preempted=run.preempted + 1)


def is_overdue(run: Run, now: float) -> bool:
    """Whether a run takes longer than its timeout."""
    return run.state is RunState.RUNNING and now > (run.started_at or now) + run.plan.timeout_s


def stop(run: Run, wish: Stop) -> Run:
    """End a run early: at once when nothing was begun, else by way of destroy. Unchanged when it ends already."""
    if run.state in {RunState.FINISHING, RunState.FINISHED}:
        return run
    stopped = replace(run, stop=wish)
    if run.state is RunState.PENDING:
        return _stop_pending(stopped, wish)
    if run.current is not None:
        stage, attempt = run.current
        outcome = Outcome(_stopped_state(stage.name, wish), wish.reason, wish.kind.value)
        stopped = _end_attempt(stopped, stage.name, attempt, AttemptState.CANCELLED, outcome, wish.at)
        stopped = _set_stage(stopped, stage.name, outcome.state, wish.reason)
    return _begin_destroy(stopped, wish.at)


def _stop_pending(run: Run, wish: Stop) -> Run:
    """A run that took over held nodes must give them back, although it never began."""
    cancelled = _settle_pending(run, StageState.CANCELLED, keep=StageName.DESTROY)
    if run.environment_id:
        return _begin_destroy(cancelled.to(RunState.RUNNING), wish.at)
    return _finish(_settle_pending(run, StageState.CANCELLED), wish.at)


def reject(run: Run, verdict: Verdict, reason: str, now: float) -> Run:
    """Finish a pending run that cannot begin, with its verdict."""
    settled = _settle_pending(run, StageState.SKIPPED)
    return settled.to(RunState.FINISHED, verdict=verdict, reason=reason, finished_at=now)


def _stopped_state(stage: StageName, wish: Stop) -> StageState:
    """A deliver that takes too long is our side's fault, every other stage the product's."""
    if wish.kind is not StopKind.TIMEOUT:
        return StageState.CANCELLED
    return StageState.ERROR if stage is StageName.DELIVER else StageState.FAILED


def _close(run: Run, name: StageName, outcome: Outcome, now: float) -> Run:
    attempt = run.stage(name).current
    if attempt is None:
        raise StaleAttempt(f"{run.id}: stage {name} has no open attempt")
    ended = _end_attempt(run, name, attempt, AttemptState(outcome.state.value), outcome, now)
    return _set_stage(ended, name, outcome.state, outcome.reason)


def _end_attempt(run: Run, name: StageName, attempt: Attempt, state: AttemptState, why: Outcome, now: float) -> Run:
    ended = replace(attempt, state=state, finished_at=now, code=why.code, reason=why.reason)
    return run.with_stage(run.stage(name).with_attempt(ended))


def _set_stage(run: Run, name: StageName, state: StageState, reason: str) -> Run:
    return run.with_stage(replace(run.stage(name), state=state, reason=reason))


def _advance(run: Run, done: StageName, now: float) -> Run:
    if done is StageName.DESTROY:
        return _finish(run, now)
    if run.stage(done).state is StageState.PASSED and next_stage(run) is not StageName.DESTROY:
        return _queue(run, next_stage(run), now)
    return _begin_destroy(run, now)


def _begin_destroy(run: Run, now: float) -> Run:
    ending = _settle_pending(run, StageState.SKIPPED, keep=StageName.DESTROY)
    verdict, reason = verdict_of(ending)
    finishing = ending.to(RunState.FINISHING, verdict=verdict, reason=reason)
    return _queue(finishing, StageName.DESTROY, now)


def _settle_pending(run: Run, state: StageState, keep: StageName | None = None) -> Run:
    def settled(stage: StageRun) -> StageRun:
        waits = stage.state is StageState.PENDING and stage.name is not keep
        return replace(stage, state=state) if waits else stage

    return replace(run, stages=tuple(map(settled, run.stages)))


def _finish(run: Run, now: float) -> Run:
    verdict, reason = verdict_of(run)
    return run.to(RunState.FINISHED, verdict=verdict, reason=reason, finished_at=now)


def rerun(run: Run, new_id: str, now: float, first: StageName, environment_id: str) -> Run:
    """A new run of the same commit; stages before `first` are skipped because `environment_id` stands already."""
    if run.state is not RunState.FINISHED:
        raise InvalidTransition(f"run {run.id} is still {run.state}; wait for its end or cancel it first")
    if run.blueprint is None:
        raise InvalidTransition(f"run {run.id} never had a valid greenroom.yml; push a commit that has")
    earlier = STAGES[: STAGES.index(first)]
    skipped = tuple(StageRun(name, StageState.SKIPPED, f"done in {run.id}") for name in earlier)
    remaining = tuple(StageRun(name) for name in STAGES[len(earlier) :])
    return Run(
        id=new_id,
        project=run.project,
        trigger=run.trigger,
        state=RunState.PENDING,
        created_at=now,
        blueprint=run.blueprint,
        provider=run.provider,
        priority=Priority.INTERACTIVE,
        stages=skipped + remaining,
        environment_id=environment_id,
        rerun_of=run.id,
    )
