"""Greenroom's driver of an OpenStack cloud.

Nothing is made twice: whoever makes an environment keeps a lock on it, looks for what is there by its mark, and makes
what is missing. The first thing that is made is the environment's security group, and the last that goes; where there
is none, nothing else has to be looked for. The lock is a file, so that it falls with the process that held it; on
another machine nobody builds the same environment, since the write that begins a build is won by one alone.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.adapters.drivers.openstack import apart, groups, servers, wires
from pipeline.adapters.drivers.openstack.checks import mistakes_of
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.adapters.drivers.openstack.removal import remove
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark
from pipeline.domain.errors import InfraError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.ports.drivers import (
    EnvironmentRequest,
    Listing,
    NodeRequest,
    NodeView,
    OwnedEnvironment,
)

log = logging.getLogger(__name__)


class OpenStackDriver:
    """`Driver` of one provider; `projects` are the accounts of those projects that have one of their own."""

    def __init__(
        self, deployment: str, account: Account, projects: Mapping[str, Account], terms: Terms, locks: Path
    ) -> None:
        self._deployment = deployment
        self._locks = locks
        self._clouds = Clouds(account, projects, terms)
        self.capabilities = terms.capabilities()

    def create(self, request: EnvironmentRequest) -> None:
        cloud = self._clouds.of(request.project)
        mark = Mark(self._deployment, request.environment_id)
        with self._lock(request.environment_id):
            cloud.names.afresh(lambda: _create(cloud, mark, request))

    def nodes(self) -> Sequence[NodeView]:
        return servers.views_once((cloud.servers() for cloud in self._clouds.all()), self._deployment)

    def list(self) -> Listing:
        nodes = tuple(self.nodes())
        there = {view.environment_id: 0.0 for view in nodes}
        ends = there | groups.environments(self._clouds.all(), self._deployment)
        return Listing(nodes, tuple(OwnedEnvironment(id, ends_at) for id, ends_at in ends.items()))

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        mark = Mark(self._deployment, environment_id)
        with self._lock(environment_id):
            self._remove(mark, None if nodes is None else frozenset(nodes))

    def _remove(self, mark: Mark, nodes: frozenset[str] | None) -> None:
        """From whatever account has it: one that does not answer must not keep what is another's."""
        found, faults = False, dict[Account, InfraError]()
        for account in self._clouds.accounts():
            try:
                found |= remove(self._clouds.at(account), mark, nodes)
            except InfraError as error:
                faults[account] = error
        if faults and not found:
            raise next(iter(faults.values()))
        for account, fault in faults.items():
            log.warning("environment %s was not looked for in %s: %s", mark.environment_id, account, fault)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        for cloud in self._clouds.all():
            groups.mark_end(cloud, Mark(self._deployment, environment_id), ends_at)

    def inventory(self) -> Inventory | None:
        return None

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:  # noqa: ARG002  # called by name
        return {}

    def check(self) -> Sequence[str]:
        return mistakes_of(self._clouds)

    def close(self) -> None:
        self._clouds.close()

    @contextmanager
    def _lock(self, environment_id: str) -> Iterator[None]:
        """One at a time builds or removes an environment, of all threads and processes of this machine.

        There are 256 locks, so that their files do not become more; two environments seldom share one.
        """
        self._locks.mkdir(parents=True, exist_ok=True)
        with (self._locks / hashlib.sha256(environment_id.encode()).hexdigest()[:2]).open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _create(cloud: Cloud, mark: Mark, request: EnvironmentRequest) -> None:
    for node in request.nodes:  # what is wrong with the request is said before anything is made
        servers.check_custom(cloud, node)
        servers.image_of(cloud, node, mark.deployment, request.project)
        servers.flavor_of(cloud, node)
    found = groups.existing(cloud, mark)
    there = (
        {view.name for view in servers.views(servers.of_environment(cloud, mark), mark.deployment)} if found else set()
    )
    missing = [node for node in request.nodes if node.name not in there]
    if not missing:
        return
    ids = groups.ensure(cloud, mark, request, found)
    kept_apart = apart.ensure(cloud, mark, missing, fresh=not found)
    wired = wires.connect(cloud, mark, request, missing, ids, fresh=not found)

    def one(node: NodeRequest) -> str:
        return servers.create(cloud, mark, request, node, wired[node.name], apart.hint(kept_apart, node))

    apart.in_turn(cloud, kept_apart, missing, one)
