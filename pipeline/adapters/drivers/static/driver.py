"""The driver: nodes are leases of registered machines. All states are the stock's, which keeps them in the store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.domain.errors import InfraError, InvalidTransition
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.registered import Registered, Wanted, ending, images_of, inventory_of
from pipeline.ports.drivers import (
    Capabilities,
    EnvironmentRequest,
    Listing,
    NodeStatus,
    NodeView,
    OwnedEnvironment,
)
from pipeline.ports.machines import MachineHands, Stock

log = logging.getLogger(__name__)
#: Machines that are talked to at a time.
AT_ONCE = 8


class StaticDriver:
    """`Driver` of one stock, which several deployments may share. Nodes show the host key of their machine."""

    def __init__(self, deployment: str, stock: Stock, hands: MachineHands) -> None:
        self._deployment = deployment
        self._stock = stock
        self._hands = hands

    @property
    def capabilities(self) -> Capabilities:
        """The images are those of the machines that are registered now."""
        return Capabilities(login=True, images=images_of(self._stock.machines()))

    def create(self, request: EnvironmentRequest) -> None:
        wanted = [Wanted(node.name, node.image, node.machine) for node in request.nodes]
        self._stock.claim(self._deployment, request.environment_id, request.ends_at, wanted)
        closed = [one for one in self._ours(request.environment_id) if one.lease is not None and not one.lease.open]
        if not closed:
            return
        keys = (request.authorized_key, *request.login_keys)
        with ThreadPoolExecutor(min(AT_ONCE, len(closed))) as pool:
            faults = tuple(pool.map(lambda one: self._hand_over(one, keys), closed))
        self._stock.opened(request.environment_id, {one.name: why for one, why in zip(closed, faults, strict=True)})

    def _hand_over(self, machine: Registered, keys: Sequence[str]) -> str:
        """Why it could not be handed over: a fault of this machine, so that its node is placed elsewhere."""
        try:
            self._hands.hand_over(machine, keys)
        except (InfraError, InvalidTransition) as error:
            return str(error)
        return ""

    def nodes(self) -> Sequence[NodeView]:
        return self.list().nodes

    def list(self) -> Listing:
        """A machine is a node as soon as its keys are installed, or could not be.

        One that was down may tell an end that is not the last: of an environment's machines, the latest end counts.
        """
        leased = [one for one in self._stock.machines() if one.lease and one.lease.deployment == self._deployment]
        ends: dict[str, float] = {}
        for lease in (one.lease for one in leased if one.lease is not None):
            ends[lease.environment] = max(lease.ends_at, ends.get(lease.environment, 0.0))
        return Listing(
            nodes=tuple(view for one in leased if (view := _view(one)) is not None),
            environments=tuple(OwnedEnvironment(id, at) for id, at in ends.items()),
        )

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        """The keys are taken away at once where the machine answers; in any case before anybody else gets it."""
        names = [one.lease.node for one in self._ours(environment_id) if one.lease is not None]
        dirty = self._stock.give_back(environment_id, [one for one in names if nodes is None or one in nodes])
        there = [one for one in dirty if not one.fault]
        if there:
            with ThreadPoolExecutor(min(AT_ONCE, len(there))) as pool:
                tuple(pool.map(self._take_back, there))

    def _take_back(self, machine: Registered) -> None:
        try:
            self._hands.take_back(machine)
        except (InfraError, InvalidTransition) as error:
            log.info("machine %s: its keys are taken away when it is cleaned: %s", machine.name, error)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """The machines first: `list` shows what the books say, and as long as that is the old end it is tried again.

        One that is down keeps the end that it has; where all are, so do the books.
        """
        ours = [ending(one, ends_at) for one in self._ours(environment_id)]
        there = [one for one in ours if one.lease is not None and one.lease.open and not one.fault]
        if there:
            with ThreadPoolExecutor(min(AT_ONCE, len(there))) as pool:
                faults = [fault for fault in pool.map(self._mark, there) if fault is not None]
            if len(faults) == len(there):
                raise faults[0]
            self._stock.mark_end(environment_id, ends_at)

    def _mark(self, machine: Registered) -> InfraError | None:
        """What went wrong, if anything: where others of the environment tell the end, theirs counts."""
        try:
            self._hands.mark(machine)
        except InfraError as error:
            log.warning("machine %s tells an old end of its lease: %s", machine.name, error)
            return error
        except InvalidTransition:  # it was given back meanwhile
            return None
        return None

    def names(self) -> frozenset[str]:
        """The machines that are registered now."""
        return frozenset(one.name for one in self._stock.machines())

    def inventory(self) -> Inventory | None:
        return inventory_of(self._stock.machines())

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:  # noqa: ARG002  # nobody measures them
        return {}

    def check(self) -> Sequence[str]:
        """What does not answer is told by the machines' own states."""
        return ()

    def close(self) -> None:
        """The transport keeps the connections."""

    def _ours(self, environment_id: str) -> Sequence[Registered]:
        ours = [one for one in self._stock.machines() if one.is_of(environment_id)]
        return [one for one in ours if one.lease is not None and one.lease.deployment == self._deployment]


def _view(one: Registered) -> NodeView | None:
    lease = one.lease
    if lease is None or not (lease.open or lease.fault):
        return None
    fault = lease.fault or (f"machine {one.name} does not answer: {one.fault}" if one.fault else "")
    return NodeView(
        environment_id=lease.environment,
        name=lease.node,
        driver_id=f"{one.name}-{one.turn}",
        status=NodeStatus.ERROR if fault else NodeStatus.ACTIVE,
        address=one.login.address,
        port=one.login.port,
        fault=fault,
        machine=one.name,
        host_public_key=one.login.host_key,
    )
