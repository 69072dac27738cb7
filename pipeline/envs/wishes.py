"""What a request wants beyond nodes, and whether its provider can give it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from pipeline.domain.allowances import not_allowed
from pipeline.domain.snapshots import named
from pipeline.domain.wiring import Custom, Wiring
from pipeline.envs.providers import Provider
from pipeline.ports.drivers import Can, Capabilities

#: The key of a blueprint that asks for each.
KEYS = {
    Can.NETWORKS: "networks",
    Can.VIRTUAL_ADDRESS: "virtual_address",
    Can.FLOATING: "floating",
    Can.CUSTOM: "server",
    Can.SNAPSHOTS: "image: snapshot/NAME",
}


class Wishing(Protocol):
    """A node, planned or asked of the driver."""

    @property
    def role(self) -> str: ...
    @property
    def image(self) -> str: ...
    @property
    def wiring(self) -> Wiring: ...
    @property
    def custom(self) -> Custom: ...


def unmet(provider: Provider, nodes: Iterable[Wishing]) -> str:
    """Which role wants what its provider cannot give or does not allow, and what to do; empty when it gets all.

    A driver that has to ask for its capabilities is asked only where something is wished. Openings are no wish: where
    nothing is closed, they change nothing. Errors: those of the driver that is asked.
    """
    wishing = [(node, wishes) for node in nodes if (wishes := tuple(_wishes(node)))]
    if not wishing:
        return ""
    capabilities = provider.driver.capabilities
    found = (_unmet(node, wishes, provider.name, capabilities) for node, wishes in wishing)
    return next(filter(None, found), "")


def _unmet(node: Wishing, wishes: Iterable[Can], provider: str, capabilities: Capabilities) -> str:
    start = f"role {node.role}: provider {provider}"
    for wish in wishes:
        if wish not in capabilities.can:
            return f"{start} cannot give what `{KEYS[wish]}` asks for; leave it out, or name another provider"
    refused = not_allowed(node.custom, capabilities.custom)
    return f"{start}: {refused}" if refused else ""


def _wishes(node: Wishing) -> Iterator[Can]:
    if node.wiring.attachments:
        yield Can.NETWORKS
    if node.wiring.virtual_address:
        yield Can.VIRTUAL_ADDRESS
    if node.wiring.floating:
        yield Can.FLOATING
    if node.custom != Custom():
        yield Can.CUSTOM
    if named(node.image):
        yield Can.SNAPSHOTS
