"""The in-memory twin of every driver: servers that exist only as entries, with knobs for what clouds do wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.domain.errors import CapacityError, InfraError, NotFound, PermanentError, TransientError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.snapshots import Snapshot, SnapshotState
from pipeline.ports.drivers import (
    Can,
    Capabilities,
    EnvironmentRequest,
    Listing,
    NodeRequest,
    NodeStatus,
    NodeView,
    OwnedEnvironment,
)


@dataclass
class MemoryCloud:
    """What exists. Knobs:

    `fail_create`, `fail_destroy`, `fail_list`, `fail_mark`: errors to raise, one a call. `slow`: new nodes stay
    building until `finish` is called. `faults`: node name to the fault it comes up with; `bad_images` and
    `bad_machines`: the same by image, and by machine as `machine_of` knows it (environment id, node name), since
    drivers are not told. `outage`: what every call says while it is not empty. `room`: nodes that fit, None for any
    number. `inventory`: what the cloud reports of its machines. `loads`: what it measures of them. `can`: what it does
    for nodes, and `custom` what its operator lets projects set; everything at first. `requests`: what it was asked for
    last, by environment. `lies`: so many calls of destroy return although everything still stands. `mistakes`: what a
    check finds. `login_keys` says who may log in beside Greenroom, by environment. `full`: nodes, by name, whose fault
    is that a quota was full. `exact`: nodes stand on the machines that placement chose.
    """

    nodes: dict[tuple[str, str], NodeView] = field(default_factory=dict)
    marks: dict[str, tuple[str, float]] = field(default_factory=dict)
    fail_create: list[InfraError] = field(default_factory=list)
    fail_destroy: list[InfraError] = field(default_factory=list)
    fail_list: list[InfraError] = field(default_factory=list)
    fail_mark: list[InfraError] = field(default_factory=list)
    faults: dict[str, str] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    bad_images: dict[str, str] = field(default_factory=dict)
    bad_machines: dict[str, str] = field(default_factory=dict)
    machine_of: Callable[[str, str], str] = lambda _environment_id, _node: ""
    outage: str = ""
    slow: bool = False
    room: int | None = None
    inventory: Inventory | None = None
    loads: dict[str, Load] = field(default_factory=dict)
    can: frozenset[Can] = frozenset(Can)
    custom: frozenset[str] = frozenset({"flavor", "metadata", "user_data", "extra_specs"})
    exact: bool = True
    requests: dict[str, EnvironmentRequest] = field(default_factory=dict)
    lies: int = 0
    mistakes: list[str] = field(default_factory=list)
    login_keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    made: int = 0

    def finish(self) -> None:
        """Let every node that is building become active."""
        for key, view in self.nodes.items():
            if view.status is NodeStatus.BUILDING:
                self.nodes[key] = replace(view, status=NodeStatus.ACTIVE)

    def fault_of(self, environment_id: str, node: NodeRequest) -> str:
        """The fault with which a node comes up; empty for a good one."""
        machine = self.machine_of(environment_id, node.name)
        by_place = self.bad_images.get(node.image, "") or self.bad_machines.get(machine, "")
        return self.faults.get(node.name, "") or by_place

    def answer(self, errors: list[InfraError]) -> None:
        """Raise what the next call is to fail with, if anything."""
        if self.outage:
            raise TransientError(self.outage)
        if errors:
            raise errors.pop(0)


class MemoryDriver:
    """`Driver` on a `MemoryCloud`; several deployments may share one."""

    def __init__(self, cloud: MemoryCloud, deployment: str, *, images: Sequence[str] = (), login: bool = False) -> None:
        self._cloud = cloud
        self._deployment = deployment
        self._login = login
        self._images = tuple(images)

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(self._login, self._images, self._cloud.can, self._cloud.custom, self._cloud.exact)

    def create(self, request: EnvironmentRequest) -> None:
        with self._cloud.lock:
            self._cloud.answer(self._cloud.fail_create)
            self._check(request)
            self._cloud.marks[request.environment_id] = (request.deployment, request.ends_at)
            self._cloud.requests[request.environment_id] = request
            self._cloud.login_keys[request.environment_id] = request.login_keys
            for node in request.nodes:
                self._add(request.environment_id, node)

    def _check(self, request: EnvironmentRequest) -> None:
        for node in request.nodes:
            if self.capabilities.images and node.image not in self.capabilities.images:
                known = ", ".join(sorted(self.capabilities.images))
                raise PermanentError(f"node {node.name}: there is no image {node.image!r}; there are: {known}")
        missing = [node for node in request.nodes if (request.environment_id, node.name) not in self._cloud.nodes]
        if self._cloud.room is not None and len(self._cloud.nodes) + len(missing) > self._cloud.room:
            raise CapacityError(
                f"environment {request.environment_id}: the cloud has room for {self._cloud.room} nodes"
            )

    def _add(self, environment_id: str, node: NodeRequest) -> None:
        key = (environment_id, node.name)
        if key in self._cloud.nodes:
            return
        self._cloud.made += 1
        fault = self._cloud.fault_of(environment_id, node)
        usual = NodeStatus.BUILDING if self._cloud.slow else NodeStatus.ACTIVE
        self._cloud.nodes[key] = NodeView(
            environment_id=environment_id,
            name=node.name,
            driver_id=f"memory-{self._cloud.made}",
            status=NodeStatus.ERROR if fault else usual,
            address=f"192.0.2.{self._cloud.made % 250 + 1}",
            fault=fault,
            full=bool(fault) and node.name in self._cloud.full,
            machine=node.machine,
            addresses={
                one.network: one.address or f"198.51.100.{self._cloud.made % 250 + 1}"
                for one in node.wiring.attachments
            },
        )

    def nodes(self) -> Sequence[NodeView]:
        return self.list().nodes

    def list(self) -> Listing:
        with self._cloud.lock:
            self._cloud.answer(self._cloud.fail_list)
            ours = {id: ends for id, (deployment, ends) in self._cloud.marks.items() if deployment == self._deployment}
            return Listing(
                nodes=tuple(view for (id, _), view in self._cloud.nodes.items() if id in ours),
                environments=tuple(OwnedEnvironment(id, ends) for id, ends in ours.items()),
            )

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        with self._cloud.lock:
            self._cloud.answer(self._cloud.fail_destroy)
            if self._cloud.marks.get(environment_id, (self._deployment,))[0] != self._deployment:
                return
            if self._cloud.lies > 0:
                self._cloud.lies -= 1
                return
            for id, name in list(self._cloud.nodes):
                if id == environment_id and (nodes is None or name in nodes):
                    del self._cloud.nodes[id, name]
            if nodes is None:
                self._cloud.marks.pop(environment_id, None)
                self._cloud.requests.pop(environment_id, None)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        with self._cloud.lock:
            self._cloud.answer(self._cloud.fail_mark)
            if self._cloud.marks.get(environment_id, ("",))[0] == self._deployment:
                self._cloud.marks[environment_id] = (self._deployment, ends_at)

    def inventory(self) -> Inventory | None:
        return self._cloud.inventory

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:
        with self._cloud.lock:
            names = [machine.name for machine in machines]
            return {name: self._cloud.loads[name] for name in names if name in self._cloud.loads}

    def check(self) -> Sequence[str]:
        return self._cloud.mistakes

    def close(self) -> None:
        """Nothing is kept open."""


@dataclass
class MemorySnapshots:
    """`Snapshots` of a `MemoryCloud`'s nodes, by project and name. Knobs: `slow` ones are saved when `finish` is
    called; `used_by`: what was made of one, by its id; `fail`: errors to raise, one a call.
    """

    cloud: MemoryCloud
    kept: dict[tuple[str, str], Snapshot] = field(default_factory=dict)
    slow: bool = False
    used_by: dict[str, list[str]] = field(default_factory=dict)
    fail: list[InfraError] = field(default_factory=list)

    def take(self, wish: Snapshot) -> Snapshot:
        self.cloud.answer(self.fail)
        if (wish.environment, wish.node) not in self.cloud.nodes:
            raise NotFound(f"environment {wish.environment} has no server of node {wish.node} in the cloud")
        state = SnapshotState.SAVING if self.slow else SnapshotState.READY
        self.kept[wish.project, wish.name] = replace(wish, id=f"image-{wish.project}-{wish.name}", state=state)
        return self.kept[wish.project, wish.name]

    def finish(self) -> None:
        """Let every one be saved."""
        self.kept = {key: replace(one, state=SnapshotState.READY) for key, one in self.kept.items()}

    def all(self) -> Sequence[Snapshot]:
        self.cloud.answer(self.fail)
        return tuple(self.kept.values())

    def users(self, snapshot: Snapshot) -> Sequence[str]:
        self.cloud.answer(self.fail)
        return tuple(self.used_by.get(snapshot.id, ()))

    def remove(self, snapshot: Snapshot) -> None:
        self.cloud.answer(self.fail)
        self.kept.pop((snapshot.project, snapshot.name), None)

    def close(self) -> None:
        """Nothing is kept open."""
