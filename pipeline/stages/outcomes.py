"""What came of an environment that was asked for."""

from __future__ import annotations

from pipeline.domain.environments import LEAVING_STATES, EnvironmentState
from pipeline.domain.runs import RunState, Verdict
from pipeline.envs.books import Books

#: An environment in one of these states stands.
STANDING = frozenset({EnvironmentState.LEASED, EnvironmentState.HELD})


def outcome(books: Books, environment_id: str) -> str | None:
    """Why it was not prepared well; empty when it was, None while that is under way."""
    environment = books.environments.get(environment_id).value
    run = books.runs.find(environment.owner) if environment.owner else None
    if run is not None and run.value.state is RunState.FINISHED and run.value.verdict is not Verdict.PASSED:
        return f"run {run.value.id} {run.value.verdict}: {run.value.reason}"
    if environment.state not in STANDING:
        over = environment.state in LEAVING_STATES
        return f"environment {environment.id} is {environment.state}: {environment.reason}" if over else None
    ready = environment.contract is not None and environment.contract.ready_at > 0
    return "" if ready and (run is None or run.value.state is RunState.FINISHED) else None
