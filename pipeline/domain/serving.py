"""Which nodes of an environment get requests."""

from __future__ import annotations

from collections.abc import Collection

from pipeline.domain.environments import Environment, NodeState
from pipeline.domain.traffic import Backend, Door, Target


def backend_of(environment: Environment, door: Door, base_domain: str, *, sticky: bool = False) -> Backend:
    """Only nodes in service get requests: not one that comes, drains, is lost or goes."""
    serving = [node for node in environment.of_role(door.role) if node.state is NodeState.IN_SERVICE and node.address]
    targets = tuple(Target(str(node.address), door.port) for node in serving)
    taken_over = environment.contract.host if environment.contract is not None else ""
    return Backend(environment.id, targets, taken_over or f"{environment.id}.{base_domain}", door.path, sticky)


def absent(environment: Environment, role: str) -> tuple[str, ...]:
    """Names of its nodes of a role that are lost, or are being replaced."""
    scaling = environment.scaling
    replaced: Collection[str] = scaling.coming if scaling is not None and scaling.replaces else ()
    nodes = [node for node in environment.of_role(role) if node.state is not NodeState.IN_SERVICE]
    return tuple(node.name for node in nodes if node.state is NodeState.LOST or node.name in replaced)
