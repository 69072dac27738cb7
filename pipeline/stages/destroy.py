"""Destroy: fetch what is to be kept, then take everything back, unless it is held for debugging."""

from __future__ import annotations

from pipeline.domain.environments import Environment, EnvironmentState, hold
from pipeline.domain.errors import GreenroomError, GuardRefused
from pipeline.domain.leases import LIVING, ready
from pipeline.domain.moments import to_the_second
from pipeline.domain.runs import HELD, Outcome, Run, StageState, Verdict
from pipeline.envs import events, jobs
from pipeline.envs.books import Loaded
from pipeline.envs.gate import Asking
from pipeline.ports.common import LimitExceeded
from pipeline.ports.stores import Event
from pipeline.stages import artifacts
from pipeline.stages.context import PASSED, Answer, Decision, Done, Stage, Waiting, line

#: Only these leave something worth debugging.
HELD_VERDICTS = frozenset({Verdict.FAILED, Verdict.ERROR})
#: Later attempts fetch nothing: what was to be kept may be what killed the earlier ones.
FETCH_ATTEMPTS = 3
#: After a refusal that may pass, a guard is asked again so much later, in seconds.
REFUSED_S = 15.0


def start(stage: Stage) -> Answer | Decision:
    """Keep artifacts, then hold or begin to take back."""
    if not stage.run.environment_id:
        return PASSED
    if stage.run.nodes:
        return lambda: _leave(stage)
    if stage.environment().value.contract is not None and stage.run.verdict is Verdict.PASSED:
        return lambda: _hand_over(stage)
    if stage.environment().value.state is EnvironmentState.LEASED:
        _keep_artifacts(stage)
    return lambda: _decide(stage)


def _leave(stage: Stage) -> Answer:
    """What becomes of nodes that came to an environment is decided there, by this run's verdict."""
    loaded = stage.environment()
    work = () if loaded.value.final else (jobs.advance(loaded.value, loaded.version),)
    return Done(Outcome(StageState.SKIPPED, f"nodes of {loaded.value.id}, which stands"), jobs=work)


def _decide(stage: Stage) -> Answer:
    loaded = stage.environment()
    if loaded.value.final:
        return PASSED
    if _to_hold(stage, loaded.value):
        return _hold(stage, loaded)
    return _take_back(stage, loaded)


def _hand_over(stage: Stage) -> Answer:
    """What was prepared well is its requester's; it ends with its own time."""
    loaded, now = stage.environment(), stage.tools.clock.now()
    if loaded.value.state not in LIVING:
        return PASSED
    prepared = ready(loaded.value, now)
    write = stage.tools.books.environments.kind.put(prepared.id, prepared, loaded.version)
    told = Event(prepared.id, "environment.prepared", now, {"environment": prepared.id, "run": stage.run.id})
    return Done(Outcome(StageState.SKIPPED, f"handed over: {prepared.id}"), writes=(write,), events=(told,))


def resume(stage: Stage) -> Answer | Decision | None:
    """Passed when everything is gone; None until then. What a guard refused is tried again."""
    environment = stage.environment().value
    if environment.final:
        return PASSED
    return None if environment.state is EnvironmentState.DESTROYING else lambda: _decide(stage)


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
    end = to_the_second(until)
    with stage.sink() as sink:
        line(sink, f"environment {held.id} is held until {end}")
        line(sink, f"log in:    greenroom ssh {stage.run.id}")
        line(sink, f"give back: greenroom release {stage.run.id}")
    write = stage.tools.books.environments.kind.put(held.id, held, loaded.version)
    told = tuple(events.of_environment(loaded.value, held, now))
    return Done(Outcome(StageState.SKIPPED, f"held until {end}", HELD), writes=(write,), events=told)


def _take_back(stage: Stage, loaded: Loaded[Environment]) -> Answer:
    run, now = stage.run, stage.tools.clock.now()
    overrides = run.stop.overrides if run.stop is not None else {}
    asking = Asking(run.id, _why(run, loaded.value), overrides, again=True)
    try:
        begun = stage.tools.removals.begin(loaded.value, asking)
    except GuardRefused as refused:
        return _refused(loaded.value, refused, now)
    going = begun.environment
    if going is loaded.value:
        return Waiting(going.id)
    writes = (stage.tools.books.environments.kind.put(going.id, going, loaded.version), *begun.writes)
    told = (*begun.events, *events.of_environment(loaded.value, going, now))
    if going.final:
        return Done(PASSED, writes=writes, events=told, jobs=(jobs.ADMIT,))
    return Waiting(going.id, writes, told, (jobs.advance(going, loaded.version),))


def _why(run: Run, environment: Environment) -> str:
    """Whoever asked for an environment looks at it, not at the run that prepared it."""
    told = f": {run.reason}" if environment.contract is not None and run.reason else ""
    return f"run {run.id} {run.verdict}{told}"


def _refused(environment: Environment, refused: GuardRefused, now: float) -> Answer:
    """Wait where the guard may allow it later; what nobody will allow ends the stage, and the nodes stay."""
    if refused.passing:
        return Waiting(environment.id, reason=str(refused), again_at=now + REFUSED_S)
    return Outcome(StageState.ERROR, str(refused), refused.code)
