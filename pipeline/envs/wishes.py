"""What a request wants beyond nodes, and whether its provider's driver can do that."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from pipeline.domain.errors import PermanentError
from pipeline.domain.wiring import Custom
from pipeline.ports.drivers import Can, EnvironmentRequest, NodeRequest

#: The key of a blueprint that asks for each.
KEYS = {
    Can.NETWORKS: "networks",
    Can.VIRTUAL_ADDRESS: "virtual_address",
    Can.FLOATING: "floating",
    Can.CUSTOM: "server",
}


def check_wishes(provider: str, request: EnvironmentRequest, can: Collection[Can]) -> None:
    """PermanentError names the role and the key that the provider cannot fulfil."""
    for node in request.nodes:
        for wish in _wishes(node):
            if wish not in can:
                raise PermanentError(
                    f"role {node.role}: provider {provider} cannot give what `{KEYS[wish]}` asks for; "
                    "leave it out, or name another provider"
                )


def _wishes(node: NodeRequest) -> Iterator[Can]:
    if node.wiring.attachments:
        yield Can.NETWORKS
    if node.wiring.virtual_address:
        yield Can.VIRTUAL_ADDRESS
    if node.wiring.floating:
        yield Can.FLOATING
    if node.custom != Custom():
        yield Can.CUSTOM
