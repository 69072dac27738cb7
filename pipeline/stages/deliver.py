"""Deliver: request the environment and wait for it without a worker."""

from __future__ import annotations

from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import InfraError, PermanentError, TransientError
from pipeline.domain.leases import LIVING
from pipeline.domain.pools import is_unconfirmed
from pipeline.domain.resizing import is_prepared_for
from pipeline.domain.runs import Outcome, StageState
from pipeline.envs import events, jobs
from pipeline.stages.context import PASSED, Answer, Done, Stage, Waiting

#: How long an environment outlives its run's own time limit, for the fetching of artifacts and the destroy stage.
GRACE_S = 900.0


def start(stage: Stage) -> Answer:
    """Request an environment in the same write in which the attempt begins to wait.

    An attempt that follows a lost one goes on with the environment that was requested already.
    """
    standing = _standing(stage)
    if standing is not None:
        return Waiting(standing.id, jobs=(jobs.wake(stage.run),))
    environment = _requested(stage)
    write = stage.tools.books.environments.kind.put(environment.id, environment, 0)
    told = tuple(events.of_environment(None, environment, environment.created_at))
    return Waiting(environment.id, (write,), told, (jobs.ADMIT,))


def _standing(stage: Stage) -> Environment | None:
    if not stage.run.environment_id:
        return None
    environment = stage.environment().value
    ending = environment.final or environment.state is EnvironmentState.DESTROYING
    if ending and environment.contract is not None:
        raise _fault(environment)  # whoever asked was told of this one: another one would be nobody's
    return None if ending else environment


def _requested(stage: Stage) -> Environment:
    now, run = stage.tools.clock.now(), stage.run
    return Environment(
        id=stage.tools.ids.new("env"),
        project=run.project,
        service=stage.plan.service,
        owner=run.id,
        provider=run.provider,
        state=EnvironmentState.REQUESTED,
        nodes=planned_nodes(stage.plan.environment),
        priority=run.priority,
        created_at=now,
        state_since=now,
        ends_at=now + stage.plan.timeout_s + GRACE_S,
        rules=stage.plan.environment.rules,
        networks=stage.plan.environment.networks,
        preempted=run.preempted,
        door=stage.plan.door,
    )


def resume(stage: Stage) -> Answer | None:
    """Judge the environment; None while it is on its way."""
    environment = stage.environment().value
    if stage.run.nodes:
        return _further(stage, environment)
    if is_unconfirmed(environment):
        return None  # it may still turn out to be nobody's
    if environment.state in LIVING:
        return _delivered(stage, environment)
    if environment.state is EnvironmentState.REJECTED:
        return Outcome(StageState.ERROR, environment.reason, "infeasible")
    if environment.final or environment.state is EnvironmentState.DESTROYING:
        raise _fault(environment)
    return None


def _further(stage: Stage, environment: Environment) -> Answer | None:
    """Judge the nodes that it is to prepare; the others have nothing to do with it."""
    scaling = environment.scaling
    if scaling is None or scaling.run != stage.run.id or scaling.fault:
        why = scaling.fault if scaling is not None else environment.degraded or environment.reason
        raise PermanentError(f"environment {environment.id}: the nodes {', '.join(stage.run.nodes)} do not come: {why}")
    if not is_prepared_for(environment, stage.run.id):
        return None
    return _delivered(stage, environment.with_nodes(environment.named(stage.run.nodes)))


def _fault(environment: Environment) -> InfraError:
    text = f"environment {environment.id}: {environment.fault or environment.reason}"
    again = not environment.fault and environment.contract is None
    return TransientError(text) if again else PermanentError(text)


def _delivered(stage: Stage, environment: Environment) -> Done:
    with stage.sink() as sink:
        for node in environment.nodes:
            sink(f"{node.name}: {node.image} at {node.address or 'no address'}, {node.driver_id}\n".encode())
    return Done(PASSED)
