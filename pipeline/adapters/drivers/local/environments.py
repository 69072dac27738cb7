"""All environments of one deployment on this machine: planned on disk, made, listed from the world, taken back."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from weakref import WeakValueDictionary

from pipeline.adapters.drivers.local import cgroups, oci
from pipeline.adapters.drivers.local.image import RECIPES, Image, images
from pipeline.adapters.drivers.local.network import FIRST_NODE, Network, claims
from pipeline.adapters.drivers.local.node import REMOVAL_PATIENCE_S, Builder
from pipeline.adapters.drivers.local.process import boot_id
from pipeline.adapters.drivers.local.protocol import Refused
from pipeline.adapters.drivers.local.records import RUN, EnvironmentRecord, NodeRecord, Records
from pipeline.ports.drivers import (
    EnvironmentRequest,
    Listing,
    NodeRequest,
    NodeStatus,
    NodeView,
    OwnedEnvironment,
)

#: Nodes made or removed at once; more only make each other slower.
AT_ONCE = 8
LAST_NODE = 254

T = TypeVar("T")


class Lock:
    """A lock that can be held in a weak dictionary."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Environments:
    """Fulfils requests; any number of threads at once, one after the other for one environment."""

    def __init__(self, builder: Builder, images_in: Path, memory_mib: int) -> None:
        self._builder = builder
        self._records: Records = builder.records
        self._network: Network = builder.network
        self._images_in = images_in
        self._memory_mib = memory_mib
        self._books = threading.Lock()
        self._locks: WeakValueDictionary[str, Lock] = WeakValueDictionary()
        self._building: set[tuple[str, str]] = set()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="node")

    @contextlib.contextmanager
    def _alone(self, environment_id: str) -> Iterator[None]:
        with self._books:
            lock = self._locks.setdefault(environment_id, Lock())
        with lock.lock:
            yield

    def guard(self) -> None:
        """Close the machine to nodes that an earlier helper left, whatever became of its rules."""
        if self._environment_ids():
            self._network.guard_machine()

    def close(self) -> None:
        """Wait for the nodes that are being made or removed."""
        self._pool.shutdown(wait=True)

    def create(self, request: EnvironmentRequest) -> None:
        """Make the nodes that are not there. Refused: `permanent`, `capacity` or `transient`."""
        known = self._images_of(request)
        self._check_disk(request)
        with self._alone(request.environment_id):
            missing = self._missing(request)
            with self._books:
                home = self._plan(request, missing)
            try:
                home = self._networked(home)
                self._build(home, request, missing, known)
            finally:
                self._building.difference_update((request.environment_id, node.name) for node in missing)

    def _images_of(self, request: EnvironmentRequest) -> dict[str, Image]:
        if request.deployment != self._records.deployment:
            raise Refused("bad-request", f"this helper serves deployment {self._records.deployment}")
        known = images(self._images_in)
        for node in request.nodes:
            if node.image not in known:
                raise Refused("permanent", unknown_image(node.image, known))
        return known

    def _check_disk(self, request: EnvironmentRequest) -> None:
        limited = [node.name for node in request.nodes if oci.disk_limited(node.qos)]
        if limited and cgroups.device_of(self._records.state) is None:
            raise Refused(
                "permanent",
                f"disk limits of node {limited[0]} cannot be kept: {self._records.state} is not on a disk of its own; "
                "put the helper's --state on one, or ask for no disk limits",
            )

    def _missing(self, request: EnvironmentRequest) -> tuple[NodeRequest, ...]:
        """Nodes to make: those that are not there, and those whose creation was never finished."""
        missing = []
        home = self._records.environment(request.environment_id)
        for node in request.nodes:
            record = self._records.node(request.environment_id, node.name)
            if record is None or record.state != "active":
                self._builder.remove(request.environment_id, node.name, home)
                missing.append(node)
        return tuple(missing)

    def _plan(self, request: EnvironmentRequest, missing: Sequence[NodeRequest]) -> EnvironmentRecord:
        """Write down what is about to be made. Refused with `capacity` when it does not fit."""
        self._check_memory(missing)
        home = self._records.environment(request.environment_id)
        if home is None or home.boot != boot_id():
            home = EnvironmentRecord(
                deployment=request.deployment,
                environment_id=request.environment_id,
                ends_at=request.ends_at,
                subnet=self._network.claim(request.environment_id),
                link=self._network.new_link(),
            )
        home = replace(home, addresses=addresses(home.addresses, [node.name for node in request.nodes]))
        self._records.save_environment(home)
        self._building.update((request.environment_id, node.name) for node in missing)
        for node in missing:
            self._records.save_node(_record(request, node, home))
        return home

    def _check_memory(self, missing: Sequence[NodeRequest]) -> None:
        promised = sum(node.memory_mib for node in self._all_nodes() if node.boot == boot_id())
        asked = sum(node.resources.memory_mib for node in missing)
        if promised + asked > self._memory_mib:
            raise Refused(
                "capacity",
                f"{asked} MiB asked for, {promised} of {self._memory_mib} MiB are promised to nodes: "
                "wait for some to end",
            )

    def _all_nodes(self) -> Iterator[NodeRecord]:
        """Nodes of every deployment that shares this machine's state directory."""
        for entry in os.scandir(self._records.state / "deployments"):
            yield from Records(self._records.state, entry.name).nodes()

    def _networked(self, home: EnvironmentRecord) -> EnvironmentRecord:
        """Make the environment's network unless it is finished; a half-made one is made anew."""
        if home.networked and home.environment_id in self._network.namespaces():
            return home
        self._network.guard_machine()
        self._network.tear_down(home.environment_id, home.link)
        fresh = replace(home, link=self._network.new_link(), networked=False)
        self._records.save_environment(fresh)
        self._network.set_up(fresh)
        done = replace(fresh, networked=True)
        self._records.save_environment(done)
        return done

    def _build(
        self,
        home: EnvironmentRecord,
        request: EnvironmentRequest,
        missing: Sequence[NodeRequest],
        known: dict[str, Image],
    ) -> None:
        def build(node: NodeRequest) -> None:
            record = _record(request, node, home)
            keys = "\n".join((request.authorized_key, *request.login_keys))
            self._builder.build(node, record, home, known[node.image], keys)

        self._each(build, missing)

    def _each(self, act: Callable[[T], None], items: Sequence[T]) -> None:
        """Do it for all in parallel; when some fail, the others are finished and the first failure is raised."""
        failures = [future.exception() for future in [self._pool.submit(act, item) for item in items]]
        for failure in failures:
            if failure is not None:
                raise failure

    def list(self) -> Listing:
        """Say what there is: processes, groups, namespaces and claims count, records explain them."""
        members = cgroups.members(self._records.deployment)
        ids = sorted(self._environment_ids())
        nodes = []
        for environment_id in ids:
            names = {*self._records.node_names(environment_id), *(n for e, n in members if e == environment_id)}
            views = (self._view(environment_id, name) for name in sorted(names))
            nodes += [view for view in views if view is not None]
        return Listing(tuple(nodes), tuple(self._owned(environment_id) for environment_id in ids))

    def _owned(self, environment_id: str) -> OwnedEnvironment:
        record = self._records.environment(environment_id)
        return OwnedEnvironment(environment_id, record.ends_at if record else 0.0)

    def _view(self, environment_id: str, name: str) -> NodeView | None:
        driver_id = self._builder.container(environment_id, name)
        record = self._records.node(environment_id, name)
        if record is None:
            if name not in self._names(environment_id):
                return None  # it went while we looked
            fault = "there is no record of it; destroy it"
            return NodeView(environment_id, name, driver_id, NodeStatus.ERROR, fault=fault)
        status, fault = self._status(record)
        return NodeView(environment_id, name, driver_id, status, record.address, 22, fault, record.machine)

    def _status(self, record: NodeRecord) -> tuple[NodeStatus, str]:
        if (record.environment_id, record.name) in self._building:
            return NodeStatus.BUILDING, ""
        if record.state == "active" and self._builder.alive(record):
            return NodeStatus.ACTIVE, ""
        return NodeStatus.ERROR, self._builder.fault(record)

    def _environment_ids(self) -> set[str]:
        """Everything that says that an environment of this deployment exists, or existed a moment ago."""
        mark = f"{self._records.deployment}/"
        claimed = {holder.split("/")[1] for holder in claims().values() if holder.startswith(mark)}
        groups = {environment for environment, _ in cgroups.members(self._records.deployment)}
        return {*self._records.environment_ids(), *self._network.namespaces(), *claimed, *groups}

    def _names(self, environment_id: str) -> set[str]:
        """Every node of an environment of which anything is left."""
        groups = {n for e, n in cgroups.members(self._records.deployment) if e == environment_id}
        mark = f"{environment_id}."
        containers = {
            entry.name.removeprefix(mark)
            for entry in os.scandir(self._records.runc_root)
            if entry.name.startswith(mark)
        }
        return {*self._records.node_names(environment_id), *groups, *containers}

    def destroy(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        """Take nodes, or a whole environment, away and see that they are gone. Refused with `transient`."""
        with self._alone(environment_id):
            home = self._records.environment(environment_id)
            if nodes is not None:
                self._each(lambda name: self._builder.remove(environment_id, name, home), sorted(set(nodes)))
                return
            names = sorted(self._names(environment_id))
            self._each(lambda name: self._builder.remove(environment_id, name, None), names)
            self._remove_environment(environment_id, home)

    def _remove_environment(self, environment_id: str, home: EnvironmentRecord | None) -> None:
        link = home.link if home else None
        self._network.tear_down(environment_id, link)
        if left := self._network.left(environment_id, link, time.monotonic() + REMOVAL_PATIENCE_S):
            raise Refused("transient", f"environment {environment_id}: {', '.join(left)} did not go; destroy it again")
        self._network.release(environment_id)
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._records.environment_place(environment_id))
        with self._books:
            if not self._environment_ids():
                self._network.unguard_machine()
                cgroups.remove_parent(self._records.deployment)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Write down another end of its lease, if it is there."""
        with self._alone(environment_id):
            home = self._records.environment(environment_id)
            if home is not None:
                self._records.save_environment(replace(home, ends_at=ends_at))

    def clean(self) -> int:
        """Take all environments of the deployment away; how many there were."""
        ids = sorted(self._environment_ids())
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="clean") as pool:
            for _ in pool.map(lambda environment_id: self.destroy(environment_id, None), ids):
                pass
        return len(ids)

    def forget(self) -> None:
        """Remove the empty places of a deployment that owns nothing; what holds something stays."""
        with self._books, contextlib.suppress(OSError):
            self._records.home.rmdir()
            shutil.rmtree(RUN / self._records.deployment)


def unknown_image(name: str, known: dict[str, Image]) -> str:
    """Say which images there are, and how to make the missing one."""
    there = ", ".join(sorted(known)) or "none"
    how = "; build it with greenroom's set-up (make setup)" if name in RECIPES else ""
    return f"there is no image {name} on this machine; there are: {there}{how}"


def addresses(known: dict[str, int], names: Sequence[str]) -> dict[str, int]:
    """Give each name the last part of an address; a name keeps the one it had. Refused when the network is full."""
    given = dict(known)
    following = max(given.values(), default=FIRST_NODE - 1) + 1
    for name in names:
        if name not in given:
            given[name], following = following, following + 1
    if following - 1 > LAST_NODE:
        raise Refused("permanent", f"an environment has at most {LAST_NODE - FIRST_NODE + 1} nodes over its life")
    return given


def _record(request: EnvironmentRequest, node: NodeRequest, home: EnvironmentRecord) -> NodeRecord:
    return NodeRecord(
        deployment=request.deployment,
        environment_id=request.environment_id,
        name=node.name,
        ends_at=request.ends_at,
        role=node.role,
        image=node.image,
        memory_mib=node.resources.memory_mib,
        address=home.address(node.name),
        throttled=oci.disk_limited(node.qos),
        machine=node.machine,
    )


def machine_memory_mib() -> int:
    """Memory of this machine."""
    first = Path("/proc/meminfo").read_text().split("\n", 1)[0]
    return int(first.split()[1]) // 1024
