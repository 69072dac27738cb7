"""How the nodes of an environment are reached."""

from __future__ import annotations

from pipeline.domain.environments import Environment, NodeState
from pipeline.domain.errors import InvalidTransition
from pipeline.ports.secrets import Secrets
from pipeline.ports.transports import EnvironmentAccess, NodeAccess

#: There is nobody to talk to.
AWAY = frozenset({NodeState.LOST, NodeState.DESTROYING})


def access_of(environment: Environment, secrets: Secrets) -> EnvironmentAccess:
    """Addresses, host keys and the key of an environment's nodes; InvalidTransition when it has none (any more)."""
    if not environment.sealed_key:
        raise InvalidTransition(f"environment {environment.id} is {environment.state}: its nodes cannot be reached")
    nodes = tuple(
        NodeAccess(node.name, node.role, node.address, node.port, "root", node.host_public_key, node.inside_address)
        for node in environment.nodes
        if node.address is not None and node.state not in AWAY
    )
    return EnvironmentAccess(environment.id, secrets.open(environment.sealed_key), nodes)
