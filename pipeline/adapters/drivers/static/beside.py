"""Registered machines beside a driver that makes servers: one provider has both, and an environment may have both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipeline.adapters.drivers.static.driver import StaticDriver
from pipeline.domain.errors import PermanentError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.wiring import Custom
from pipeline.ports.drivers import Capabilities, Driver, EnvironmentRequest, Listing, NodeRequest, NodeView


class BesideDriver:
    """`Driver` of both: a node that was placed on a registered machine gets it, every other one is made."""

    def __init__(self, made: Driver, registered: StaticDriver) -> None:
        self._made = made
        self._registered = registered

    @property
    def capabilities(self) -> Capabilities:
        """Those of the driver that makes servers; what a machine cannot do is refused where it is asked for."""
        made = self._made.capabilities
        images = (*made.images, *(one for one in self._registered.capabilities.images if one not in made.images))
        return replace(made, images=images if made.images else ())

    def create(self, request: EnvironmentRequest) -> None:
        """Machines first: a claim that fails made nothing."""
        names = self._registered.names()
        whole = tuple(node for node in request.nodes if node.machine in names)
        made = tuple(node for node in request.nodes if node.machine not in names)
        for node in whole:
            _check(node)
        if whole:
            self._registered.create(replace(request, nodes=whole))
        if made:
            self._made.create(replace(request, nodes=made))

    def nodes(self) -> Sequence[NodeView]:
        return (*self._registered.nodes(), *self._made.nodes())

    def list(self) -> Listing:
        listings = (self._registered.list(), self._made.list())
        owned = {one.environment_id: one for listing in listings for one in listing.environments}
        return Listing(tuple(node for one in listings for node in one.nodes), tuple(owned.values()))

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        self._registered.destroy(environment_id, nodes)
        self._made.destroy(environment_id, nodes)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        try:
            self._registered.mark_end(environment_id, ends_at)
        finally:  # one does not keep the other
            self._made.mark_end(environment_id, ends_at)

    def inventory(self) -> Inventory | None:
        """The other driver's: the books have the registered machines beside it."""
        return self._made.inventory()

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:
        names = self._registered.names()
        return self._made.loads([one for one in machines if one.name not in names])

    def check(self) -> Sequence[str]:
        return self._made.check()

    def close(self) -> None:
        self._made.close()


def _check(node: NodeRequest) -> None:
    """PermanentError when a node wants of a registered machine what only servers that are made can have."""
    wiring = node.wiring
    wants = {
        "networks": bool(wiring.attachments),
        "virtual_address": bool(wiring.virtual_address),
        "floating": wiring.floating,
        "server": node.custom != Custom(),
    }
    for key, wanted in wants.items():
        if wanted:
            raise PermanentError(
                f"node {node.name}: machine {node.machine} is registered, and has no `{key}`; forbid its kind"
            )
