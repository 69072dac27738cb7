"""The state machine of runs: examples of one line each, and what holds in every order of events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import runs
from pipeline.domain.blueprint import Blueprint, EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.errors import InvalidTransition, StaleAttempt
from pipeline.domain.failsafe import MAX_LOST
from pipeline.domain.runs import (
    RUN_TRANSITIONS,
    STAGES,
    WORK_STAGES,
    AttemptState,
    Outcome,
    Run,
    RunState,
    StageName,
    StageRun,
    StageState,
    Stop,
    StopKind,
    Verdict,
)
from pipeline.domain.triggers import Trigger, TriggerKind

BLUEPRINT = Blueprint("shop", EnvironmentSpec("debian-12", (RoleSpec("web"),)))
TRIGGER = Trigger(TriggerKind.PUSH, "github", "https://forge.test/shop.git", "1" * 40, branch="main")
PENDING = Run("run-1", "shop", TRIGGER, RunState.PENDING, 0.0, blueprint=BLUEPRINT, provider="cloud")
S, A, D = StageState, AttemptState, StageName
PASSED = Outcome(S.PASSED)


def taken(run: Run, by: str = "t") -> Run:
    """The run whose open attempt somebody took."""
    stage, attempt = current(run)
    started = runs.start_attempt(run, stage.name, attempt.number, by, 1.0)
    assert started is not None
    return started


def current(run: Run) -> tuple[StageRun, runs.Attempt]:
    assert run.current is not None
    return run.current


def after(run: Run, *outcomes: Outcome) -> Run:
    """The run after its open stages ended so, one after the other."""
    for outcome in outcomes:
        run = taken(run)
        run = runs.finish_attempt(run, current(run)[0].name, "t", outcome, 2.0)
    return run


def admitted() -> Run:
    return runs.admit(PENDING, 1.0)


def states(run: Run) -> str:
    """The stages' states by their first letters, running as `*`, pending as `.`."""
    letters = {S.PENDING: ".", S.RUNNING: "*", S.SKIPPED: "-"}
    return "".join(letters.get(stage.state, stage.state.value[0]) for stage in run.stages)


def failed(text: str = "bad") -> Outcome:
    return Outcome(S.FAILED, text, "stage-failed")


def broken(text: str = "away") -> Outcome:
    return Outcome(S.ERROR, text, "transient")


#: What the stages answer, one after the other; the stages' states, the run's state, its verdict and reason then.
COURSES = [
    ([], "*....", "running", None, ""),
    ([PASSED], "p*...", "running", None, ""),
    ([PASSED] * 4, "pppp*", "finishing", "passed", ""),
    ([PASSED] * 5, "ppppp", "finished", "passed", ""),
    ([failed()], "f---*", "finishing", "failed", "deliver: bad"),
    ([broken(), PASSED], "e---p", "finished", "error", "deliver: away"),
    ([PASSED, PASSED, failed()], "ppf-*", "finishing", "failed", "deploy: bad"),
    ([PASSED, PASSED, PASSED, failed(), PASSED], "pppfp", "finished", "failed", "test: bad"),
    ([PASSED, PASSED, PASSED, failed(), broken()], "pppfe", "finished", "failed", "test: bad"),
    ([PASSED] * 4 + [broken()], "ppppe", "finished", "error", "destroy: away"),
    ([PASSED] * 3 + [failed(), Outcome(S.SKIPPED, "held")], "pppf-", "finished", "failed", "test: bad"),
]


@pytest.mark.parametrize(("outcomes", "stages", "state", "verdict", "reason"), COURSES)
def test_courses(outcomes: list[Outcome], stages: str, state: str, verdict: str | None, reason: str) -> None:
    run = after(admitted(), *outcomes)
    assert (states(run), run.state.value, run.verdict, run.reason) == (stages, state, verdict, reason)


def stopped(kind: StopKind, *outcomes: Outcome) -> Run:
    return runs.stop(after(admitted(), *outcomes), Stop(kind, "enough", 9.0))


STOPS = [
    (StopKind.CANCEL, [], "c---*", "cancelled", "enough"),
    (StopKind.SUPERSEDE, [PASSED], "pc--*", "superseded", "enough"),
    (StopKind.TIMEOUT, [], "e---*", "error", "deliver: enough"),
    (StopKind.TIMEOUT, [PASSED] * 3, "pppf*", "failed", "test: enough"),
    (StopKind.CANCEL, [PASSED] * 4, "pppp*", "passed", ""),
    (StopKind.CANCEL, [PASSED] * 5, "ppppp", "passed", ""),
    (StopKind.TIMEOUT, [PASSED] * 4, "pppp*", "passed", ""),
]


@pytest.mark.parametrize(("kind", "outcomes", "stages", "verdict", "reason"), STOPS)
def test_stops(kind: StopKind, outcomes: list[Outcome], stages: str, verdict: str, reason: str) -> None:
    run = stopped(kind, *outcomes)
    assert (states(run), run.verdict, run.reason) == (stages, verdict, reason)


def test_a_pending_run_that_is_stopped_is_finished_at_once() -> None:
    run = runs.stop(PENDING, Stop(StopKind.CANCEL, "enough", 9.0))
    assert (states(run), run.state, run.verdict, run.finished_at) == ("ccccc", "finished", "cancelled", 9.0)
    assert runs.stop(run, Stop(StopKind.SUPERSEDE, "again", 10.0)) is run


def test_a_pending_run_that_has_nodes_gives_them_back() -> None:
    first = after(admitted(), PASSED, PASSED, PASSED, failed(), Outcome(S.SKIPPED, "held"))
    again = runs.rerun(first, "run-2", 5.0, StageName.TEST, "env-1")
    run = runs.stop(again, Stop(StopKind.CANCEL, "enough", 9.0))
    assert (states(run), run.state, run.verdict) == ("---c*", "finishing", "cancelled")
    assert after(run, PASSED).state is RunState.FINISHED


def test_a_rejected_run_skips_everything() -> None:
    run = runs.reject(PENDING, Verdict.FAILED, "line 3: no", 2.0)
    assert (states(run), run.state, run.verdict, run.reason) == ("-----", "finished", "failed", "line 3: no")
    with pytest.raises(InvalidTransition):
        runs.reject(admitted(), Verdict.FAILED, "late", 2.0)


def with_states(letters: str, stop: Stop | None = None) -> Run:
    by = {"p": S.PASSED, "f": S.FAILED, "e": S.ERROR, "-": S.SKIPPED, "c": S.CANCELLED}
    stages = tuple(
        StageRun(name, by[letter], f"{letter} of {name}") for name, letter in zip(STAGES, letters, strict=True)
    )
    return replace(PENDING, stages=stages, stop=stop)


VERDICTS = [
    ("ppppp", None, "passed", ""),
    ("----p", None, "passed", ""),
    ("fp--p", None, "failed", "deliver: f of deliver"),
    ("pf-ep", None, "error", "test: e of test"),
    ("pppfe", None, "failed", "test: f of test"),
    ("ppppe", None, "error", "destroy: e of destroy"),
    ("ppppf", None, "error", "destroy: f of destroy"),
    ("pppfp", StopKind.TIMEOUT, "failed", "test: f of test"),
    ("pppfe", StopKind.CANCEL, "cancelled", "enough"),
    ("pppep", StopKind.SUPERSEDE, "superseded", "enough"),
]


@pytest.mark.parametrize(("letters", "stop", "verdict", "reason"), VERDICTS)
def test_the_verdict_is_the_first_match(letters: str, stop: StopKind | None, verdict: str, reason: str) -> None:
    run = with_states(letters, Stop(stop, "enough", 1.0) if stop else None)
    assert runs.verdict_of(run) == (verdict, reason)


# Attempts and tokens


def test_an_attempt_is_taken_once() -> None:
    run = taken(admitted(), "first")
    assert runs.start_attempt(run, D.DELIVER, 1, "second", 2.0) is None
    assert runs.start_attempt(admitted(), D.DELIVER, 2, "second", 2.0) is None
    assert runs.start_attempt(admitted(), D.TEST, 1, "second", 2.0) is None


ACTS: list[Callable[[Run, str], object]] = [
    lambda run, token: runs.finish_attempt(run, D.DELIVER, token, PASSED, 2.0),
    lambda run, token: runs.retry_attempt(run, D.DELIVER, token, broken(), 2.0, 3.0),
    lambda run, token: runs.wait_attempt(run, D.DELIVER, token),
]


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("token", ["", "another"])
def test_another_token_can_do_nothing(act: Callable[[Run, str], object], token: str) -> None:
    with pytest.raises(StaleAttempt, match="another one has its place"):
        act(taken(admitted()), token)
    with pytest.raises(StaleAttempt):
        act(admitted(), token)


@pytest.mark.parametrize("act", ACTS)
def test_a_token_does_not_work_twice(act: Callable[[Run, str], object]) -> None:
    for first in ACTS:
        used = first(taken(admitted()), "t")
        assert isinstance(used, Run)
        with pytest.raises(StaleAttempt):
            act(used, "t")


def test_a_lost_worker_can_write_nothing() -> None:
    run = runs.lose_attempt(taken(admitted()), 5.0, "gone")
    with pytest.raises(StaleAttempt):
        runs.finish_attempt(run, D.DELIVER, "t", PASSED, 6.0)
    assert [attempt.state for attempt in run.stage(D.DELIVER).attempts] == [A.LOST, A.QUEUED]


def test_a_waiting_attempt_is_woken_under_a_new_token() -> None:
    waiting = runs.wait_attempt(taken(admitted()), D.DELIVER, "t")
    woken = runs.wake_attempt(waiting, D.DELIVER, 1, "new")
    assert woken is not None
    assert runs.held_by(woken, D.DELIVER, "new").number == 1
    assert runs.wake_attempt(woken, D.DELIVER, 1, "third") is None
    assert runs.wake_attempt(waiting, D.DELIVER, 2, "third") is None
    assert runs.wake_attempt(admitted(), D.DELIVER, 1, "third") is None


def test_a_retry_waits_for_its_time() -> None:
    run = runs.retry_attempt(taken(admitted()), D.DELIVER, "t", broken(), 2.0, 7.5)
    _, attempt = current(run)
    assert (attempt.number, attempt.state, attempt.not_before) == (2, A.QUEUED, 7.5)
    assert run.stage(D.DELIVER).state is S.RUNNING


def test_losses_are_given_up() -> None:
    run = admitted()
    for _ in range(MAX_LOST - 1):
        run = runs.lose_attempt(taken(run), 5.0, "gone")
        assert run.state is RunState.RUNNING
    run = runs.lose_attempt(taken(run), 5.0, "gone")
    assert (states(run), run.verdict) == ("e---*", "error")
    assert f"lost {MAX_LOST} times" in run.reason


def test_what_is_not_open_cannot_be_lost() -> None:
    with pytest.raises(InvalidTransition, match="no open attempt"):
        runs.lose_attempt(PENDING, 1.0, "gone")


# Runs that are done again


@pytest.mark.parametrize("first", WORK_STAGES)
def test_a_rerun_skips_what_stands(first: StageName) -> None:
    old = after(admitted(), PASSED, PASSED, PASSED, failed(), PASSED)
    run = runs.rerun(old, "run-2", 5.0, first, "env-1")
    earlier = STAGES.index(first)
    assert states(run) == "-" * earlier + "." * (5 - earlier)
    assert (run.state, run.rerun_of, run.priority) == ("pending", "run-1", Priority.INTERACTIVE)
    assert current(runs.admit(run, 6.0))[0].name is first


@pytest.mark.parametrize("run", [PENDING, admitted(), after(admitted(), failed())])
def test_only_what_is_finished_is_done_again(run: Run) -> None:
    with pytest.raises(InvalidTransition, match="is still"):
        runs.rerun(run, "run-2", 5.0, StageName.DELIVER, "")


def test_what_never_had_a_blueprint_is_not_done_again() -> None:
    old = runs.reject(replace(PENDING, blueprint=None), Verdict.FAILED, "no", 1.0)
    with pytest.raises(InvalidTransition, match="never had a valid"):
        runs.rerun(old, "run-2", 5.0, StageName.DELIVER, "")
    with pytest.raises(InvalidTransition, match="has no blueprint"):
        _ = old.plan


# In every order of events


class World:
    """A run, the tokens that were ever given, and those that must not work any more."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tokens: list[str] = []
        self.history = [run.state]

    def move(self, run: Run | None) -> None:
        if run is None:
            return
        assert run.state is self.run.state or run.state in RUN_TRANSITIONS[self.run.state] or self._gives_back(run)
        self.run = run
        if run.state is not self.history[-1]:
            self.history.append(run.state)
        self.check()

    def _gives_back(self, run: Run) -> bool:
        return bool(run.rerun_of) and (self.run.state, run.state) == (RunState.PENDING, RunState.FINISHING)

    def check(self) -> None:
        run = self.run
        open_attempts = [attempt for stage in run.stages for attempt in stage.attempts if attempt.open]
        begun = run.state in runs.ACTIVE_STATES
        assert len(open_attempts) == int(begun)
        assert (run.verdict is not None) == (run.state in {RunState.FINISHING, RunState.FINISHED})
        if run.state is RunState.FINISHING:
            assert run.stage(D.DESTROY).state is S.RUNNING
        if run.state is RunState.FINISHED:
            assert all(stage.state not in {S.PENDING, S.RUNNING} for stage in run.stages)
            assert RunState.FINISHING not in self.history or run.stage(D.DESTROY).attempts
        destroy_began = bool(run.stage(D.DESTROY).attempts)
        assert not (destroy_began and any(a.open for s in run.stages[:-1] for a in s.attempts))
        for stage in run.stages:
            assert [attempt.number for attempt in stage.attempts] == list(range(1, len(stage.attempts) + 1))


EVENTS = st.sampled_from(
    [
        "admit",
        "take",
        "wait",
        "wake",
        "pass",
        "fail",
        "break",
        "skip",
        "retry",
        "lose",
        "cancel",
        "supersede",
        "time out",
    ]
)
OUTCOMES = {"pass": PASSED, "fail": failed(), "break": broken(), "skip": Outcome(S.SKIPPED)}
STOP_KINDS = {"cancel": StopKind.CANCEL, "supersede": StopKind.SUPERSEDE, "time out": StopKind.TIMEOUT}


def happen(world: World, event: str, which: int, now: float) -> None:
    """Let one event happen, with one of the tokens that were ever given."""
    run = world.run
    token = world.tokens[which % len(world.tokens)] if world.tokens else ""
    name, number = (run.current[0].name, run.current[1].number) if run.current else (STAGES[which % 5], 1)
    fresh = f"token-{len(world.tokens)}"
    if event == "admit":
        world.move(runs.admit(run, now))
    elif event == "take":
        world.tokens.append(fresh)
        world.move(runs.start_attempt(run, name, number, fresh, now))
    elif event == "wake":
        world.tokens.append(fresh)
        world.move(runs.wake_attempt(run, name, number, fresh))
    elif event == "wait":
        world.move(runs.wait_attempt(run, name, token))
    elif event == "retry":
        world.move(runs.retry_attempt(run, name, token, broken(), now, now + 1))
    elif event == "lose":
        world.move(runs.lose_attempt(run, now, "gone"))
    elif event in STOP_KINDS:
        world.move(runs.stop(run, Stop(STOP_KINDS[event], event, now)))
    else:
        world.move(runs.finish_attempt(run, name, token, OUTCOMES[event], now))


def begin(from_stage: int) -> Run:
    if not from_stage:
        return PENDING
    old = after(admitted(), PASSED, PASSED, PASSED, failed(), Outcome(S.SKIPPED, "held"))
    return runs.rerun(old, "run-2", 5.0, STAGES[from_stage], "env-1")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 3), st.lists(st.tuples(EVENTS, st.integers(0, 50)), max_size=40))
def test_whatever_happens_the_run_stays_sound(from_stage: int, happenings: list[tuple[str, int]]) -> None:
    world = World(begin(from_stage))
    for now, (event, which) in enumerate(happenings):
        before = world.run
        try:
            happen(world, event, which, float(now))
        except InvalidTransition:
            assert world.run is before


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 3), st.lists(st.tuples(EVENTS, st.integers(0, 50)), max_size=25))
def test_whatever_happened_the_run_can_be_brought_to_its_end(
    from_stage: int, happenings: list[tuple[str, int]]
) -> None:
    world = World(begin(from_stage))
    for now, (event, which) in enumerate(happenings):
        try:
            happen(world, event, which, float(now))
        except InvalidTransition:
            continue
    if world.run.state is RunState.PENDING:
        world.move(runs.admit(world.run, 90.0))
    for _ in range(3 * len(STAGES)):
        if world.run.current is None:
            break
        stage, attempt = world.run.current
        if attempt.state is A.QUEUED:
            world.move(runs.start_attempt(world.run, stage.name, attempt.number, "last", 95.0))
        elif attempt.state is A.WAITING:
            world.move(runs.wake_attempt(world.run, stage.name, attempt.number, "last"))
        else:
            world.move(runs.finish_attempt(world.run, stage.name, attempt.token, PASSED, 99.0))
    assert world.run.state is RunState.FINISHED
    if RunState.FINISHING in world.history:
        assert world.run.stage(D.DESTROY).attempts
        assert world.history[-2:] == [RunState.FINISHING, RunState.FINISHED]
