"""Nodes that went away under a run: a node that its provider has no more is waited for in vain, and one that was built
anew has nothing of what was done on it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import InfraError, PermanentError, TransientError
from pipeline.domain.leases import LIVING
from pipeline.domain.resizing import lasts, shortfall
from pipeline.domain.runs import StageName
from pipeline.ports.drivers import NodeStatus, NodeView
from pipeline.stages.context import Stage

log = logging.getLogger(__name__)
#: What they say of the product under test holds only if it was on all nodes.
ON_NODES = frozenset({StageName.CONFIGURE, StageName.DEPLOY, StageName.TEST})


def spoiled(stage: Stage) -> PermanentError | None:
    """Why nothing counts that a stage does on nodes of its run's own; None while it does.

    Where lost nodes are replaced it is not for the run to judge.
    """
    if stage.name not in ON_NODES or not stage.run.environment_id:
        return None
    found = stage.tools.books.environments.find(stage.run.environment_id)
    if found is None or found.value.state not in LIVING or lasts(found.value):
        return None
    told = shortfall(found.value)
    return PermanentError(f"environment {found.value.id}: {told}") if told else None


def judged(stage: Stage, error: InfraError) -> InfraError:
    """The error of an attempt; PermanentError instead of a transient one when nodes of the environment are gone."""
    if not isinstance(error, TransientError) or not stage.run.environment_id:
        return error
    try:
        gone = _gone(stage, stage.environment().value)
    except InfraError as silence:
        log.warning("run %s: nobody can say what became of its nodes: %s", stage.run.id, silence)
        return error
    return PermanentError(f"{'; '.join(gone)} ({error})") if gone else error


def _gone(stage: Stage, environment: Environment) -> list[str]:
    driver = stage.tools.providers(environment.provider).driver
    if environment.state is not EnvironmentState.LEASED or not driver.capabilities.login:
        return []
    return list(lost(environment, driver.nodes()))


def lost(environment: Environment, seen: Sequence[NodeView]) -> Iterator[str]:
    """What became of each node of the environment that does not run any more."""
    views = {view.name: view for view in seen if view.environment_id == environment.id}
    for node in environment.nodes:
        view = views.get(node.name)
        if view is None:
            yield f"node {node.name} is gone: its provider {environment.provider} does not have it any more"
        elif view.status is NodeStatus.ERROR:
            yield f"node {node.name} does not run any more: {view.fault}"
