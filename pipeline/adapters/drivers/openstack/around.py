"""Everything around servers that Vagrant makes: networks, security groups, addresses, what is there, and the end of it.

Vagrant's provider fails for all machines when one is gone, tells no reasons and gives nothing back. So servers are
found by the marks in their metadata, which it writes with their creation; what they need is made beside it; and it
makes no keypair, since the keys are in the user data. What it cannot ask for, a server is given when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.adapters.drivers.openstack import apart, groups, room, servers, wires
from pipeline.adapters.drivers.openstack.checks import mistakes_of
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.adapters.drivers.openstack.removal import GONE_S, drop_strays, remove
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.openstack.vagrant_keys import account_keys, server_keys
from pipeline.clients.openstack import Account, Mark, each, marks, told
from pipeline.domain.errors import CapacityError, PermanentError
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeView


class Around:
    """A provider's accounts, as the Vagrant driver's provider `openstack` works with them.

    `projects` are the accounts of those projects that have one of their own.
    """

    def __init__(self, deployment: str, account: Account, projects: Mapping[str, Account], terms: Terms) -> None:
        self._deployment = deployment
        self._terms = terms
        self._clouds = Clouds(account, projects, terms)
        self.capabilities = terms.capabilities()

    def unusable(self) -> Sequence[str]:
        """Why Vagrant's provider cannot use the accounts, one sentence each; nobody is asked."""
        return [why for cloud in self._clouds.all() if (why := _unusable(cloud))]

    def mistakes(self) -> Sequence[str]:
        """What the settings name and the clouds do not have, one sentence each."""
        return mistakes_of(self._clouds)

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:
        """PermanentError for a node that this cloud can never have, CapacityError when the quota has no room now."""
        cloud = self._clouds.of(request.project)
        cloud.names.forget()  # Vagrant does not tell when what was known by name has become something else
        for node in nodes:
            servers.check_custom(cloud, node)
            servers.image_of(cloud, node, self._deployment, request.project)
            if not cloud.names.zones().get(node.zone, True):  # Vagrant would not tell that Nova said so
                raise CapacityError(f"node {node.name}: no machine of zone {node.zone} takes servers now")
        room.admit(cloud, [servers.flavor_of(cloud, node) for node in nodes], wires.ports_of(nodes))

    def nodes(self) -> Sequence[NodeView]:
        """Every server with a mark of the deployment."""
        return servers.views_once((cloud.servers() for cloud in self._clouds.all()), self._deployment)

    def environments(self) -> Mapping[str, float]:
        """Environments of which anything is there, and when their leases end."""
        return groups.environments(self._clouds.all(), self._deployment)

    def prepare(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> Mapping[str, Mapping[str, Any]]:
        """Make what is to be there before servers; what Vagrant's provider is told of each node."""
        cloud, mark = self._clouds.of(request.project), self._mark(request.environment_id)
        found = groups.existing(cloud, mark)
        ids = groups.ensure(cloud, mark, request, found)
        kept_apart = apart.ensure(cloud, mark, nodes, fresh=not found)
        networks = wires.reserve(cloud, mark, request)
        account = account_keys(cloud.connection)

        def keys(node: NodeRequest) -> Mapping[str, Any]:
            hint = apart.hint(kept_apart, node)
            return {**account, **server_keys(cloud, mark, request, node, networks, groups.of_node(ids, node), hint)}

        return {node.name: keys(node) for node in nodes}

    def turns(self, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
        """Those that may be made at a time, one after the other."""
        return apart.turns(self._terms, nodes)

    def settle(self, request: EnvironmentRequest) -> None:
        """Give servers that run what Vagrant's provider cannot, and write where they are reached.

        Allowed and floating addresses. May be repeated: one that says where it is reached has everything.
        """
        cloud, mark = self._clouds.of(request.project), self._mark(request.environment_id)
        names = {node.name for node in request.nodes}
        mine = (one for one in cloud.servers() if marks.marked(one.metadata) == mark)
        bare = {
            one.metadata[marks.NODE]: one
            for one in mine
            if one.status == "ACTIVE" and marks.ADDRESS not in one.metadata and one.metadata[marks.NODE] in names
        }
        if not bare:
            return
        drop_strays(cloud, mark)
        wired = wires.adopt(cloud, mark, request, {name: server.id for name, server in bare.items()})

        def one(name: str) -> None:
            _complete(cloud, mark, bare[name], servers.reached(wired[name]))

        each(one, list(bare))

    def known(self, id: str) -> Mapping[str, Any]:
        """What Vagrant's provider is told of the account that sees a server; of the provider's where none does."""
        found = (cloud for cloud in self._clouds.all() if _sees(cloud, id))
        return account_keys(next(found, self._clouds.of("")).connection)

    def remove(self, id: str) -> None:
        """Remove a server and return when it is gone; one that is not there is no fault."""
        for cloud in self._clouds.all():
            compute = cloud.connection.compute
            with told(f"deleting server {id}"):
                compute.delete_server(id, ignore_missing=True)
                server = compute.find_server(id)
                if server is not None:
                    compute.wait_for_delete(server, wait=GONE_S)

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        """Remove what was made around servers that are gone: these, or with None all of the environment."""
        for cloud in self._clouds.all():
            if nodes is None:
                remove(cloud, self._mark(environment_id), None)
            else:
                drop_strays(cloud, self._mark(environment_id))

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Let the environment's mark tell another end; nothing there is no fault."""
        for cloud in self._clouds.all():
            groups.mark_end(cloud, self._mark(environment_id), ends_at)

    def _mark(self, environment_id: str) -> Mark:
        return Mark(self._deployment, environment_id)


def _unusable(cloud: Cloud) -> str:
    try:
        account_keys(cloud.connection)
    except PermanentError as error:
        return str(error)
    return ""


def _sees(cloud: Cloud, id: str) -> bool:
    with told(f"looking for server {id}"):
        return cloud.connection.compute.find_server(id) is not None


def _complete(cloud: Cloud, mark: Mark, server: Any, reached: Mapping[str, str]) -> None:
    """The metadata come last: they say that all else was done."""
    compute = cloud.connection.compute
    with told(f"marking server {server.id} of environment {mark.environment_id}"):
        compute.set_server_metadata(server, **reached)
