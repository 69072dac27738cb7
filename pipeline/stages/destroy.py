"""Destroy: fetch what is to be kept, then take everything back, unless it is held for debugging."""

from __future__ import annotations

from datetime import UTC, datetime

from pipeline.domain.environments import Environment, EnvironmentState, begin_destroying, hold
from pipeline.domain.errors import GreenroomError
from pipeline.domain.guards import Act
from pipeline.domain.runs import HELD, Outcome, StageState, Verdict
from pipeline.envs import events, jobs
from pipeline.envs.books import Loaded
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.common import LimitExceeded
from pipeline.stages import artifacts
from pipeline.stages.context import PASSED, Answer, Decision, Done, Stage, Waiting, line

#: Only these leave something worth debugging.
HELD_VERDICTS = frozenset({Verdict.FAILED, Verdict.ERROR})
#: Later attempts fetch nothing: what was to be kept may be what killed the earlier ones.
FETCH_ATTEMPTS = 3


def start(stage: Stage) -> Answer | Decision:
    """Keep artifacts, then hold or begin to take back."""
    if not stage.run.environment_id:
        return PASSED
    if stage.environment().value.state is EnvironmentState.LEASED:
        _keep_artifacts(stage)
    return lambda: _decide(stage)


def _decide(stage: Stage) -> Answer:
    loaded = stage.environment()
    if loaded.value.final:
        return PASSED
    if _to_hold(stage, loaded.value):
        return _hold(stage, loaded)
    return _take_back(stage, loaded)


def resume(stage: Stage) -> Answer | None:
    """Passed when everything is gone; None until then."""
    return PASSED if stage.environment().value.final else None


def _keep_artifacts(stage: Stage) -> None:
    """Losing an artifact is written down, but never keeps servers alive."""
    if not stage.plan.artifacts:
        return
    with stage.sink() as sink:
        if stage.attempt.number > FETCH_ATTEMPTS:
            line(sink, f"artifacts are given up: {FETCH_ATTEMPTS} attempts did not survive fetching them")
            return
        try:
            artifacts.fetch(stage, sink)
        except (GreenroomError, LimitExceeded, OSError) as error:
            line(sink, f"artifacts could not be fetched: {error}")


def _to_hold(stage: Stage, environment: Environment) -> bool:
    wanted = stage.plan.destroy.hold_on_failure_s > 0 and stage.run.verdict in HELD_VERDICTS
    return wanted and environment.state is EnvironmentState.LEASED


def _hold(stage: Stage, loaded: Loaded[Environment]) -> Done:
    now = stage.tools.clock.now()
    until = now + stage.plan.destroy.hold_on_failure_s
    held = hold(loaded.value, until, now, f"run {stage.run.id} {stage.run.verdict}: {stage.run.reason}")
    end = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    with stage.sink() as sink:
        line(sink, f"environment {held.id} is held until {end}")
        line(sink, f"log in:    greenroom ssh {stage.run.id}")
        line(sink, f"give back: greenroom release {stage.run.id}")
    write = stage.tools.books.environments.kind.put(held.id, held, loaded.version)
    told = tuple(events.of_environment(loaded.value, held, now))
    return Done(Outcome(StageState.SKIPPED, f"held until {end}", HELD), writes=(write,), events=told)


def _take_back(stage: Stage, loaded: Loaded[Environment]) -> Answer:
    now = stage.tools.clock.now()
    going = begin_destroying(loaded.value, now, f"run {stage.run.id} {stage.run.verdict}")
    if going is loaded.value:
        return Waiting(going.id)
    asking = Asking(stage.run.id, going.reason)
    gate = Gate(stage.tools.books, stage.tools.clock)
    passed = gate.judge(Act.DESTROY, going.id, gate.facts_of(loaded.value, asking), asking)
    write = stage.tools.books.environments.kind.put(going.id, going, loaded.version)
    told = (*passed, *events.of_environment(loaded.value, going, now))
    if going.final:
        return Done(PASSED, writes=(write,), events=told, jobs=(jobs.ADMIT,))
    return Waiting(going.id, (write,), told, (jobs.advance(going, loaded.version),))
