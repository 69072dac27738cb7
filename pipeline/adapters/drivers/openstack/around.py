"""Everything around servers that Vagrant makes: names, security groups, what is there, and the end of it.

Vagrant's provider fails for all machines when one is gone, tells no reasons and gives nothing back. So servers are
found by the marks in their metadata, which it writes with their creation; their security groups are made beside it; and
it makes no keypair, since the keys are in the user data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from pipeline.adapters.drivers.openstack import groups, room, servers
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.removal import GONE_S, remove
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.openstack.vagrant_keys import account_keys, server_keys
from pipeline.clients.openstack import Account, Mark, connect, told
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeView


class Around:
    """One account, as the Vagrant driver's provider `openstack` works with it."""

    def __init__(self, deployment: str, account: Account, terms: Terms) -> None:
        self._deployment = deployment
        self._account = account
        self._terms = terms

    @cached_property
    def _cloud(self) -> Cloud:
        return Cloud(connect(self._account), self._terms)

    @property
    def images(self) -> Sequence[str]:
        return tuple(self._terms.images)

    @property
    def login(self) -> bool:
        return self._terms.login

    def account(self) -> Mapping[str, Any]:
        """What Vagrant's provider is told of the account; PermanentError when it cannot use it."""
        return account_keys(self._cloud.connection)

    def admit(self, nodes: Sequence[NodeRequest]) -> None:
        """PermanentError for a node that this cloud can never have, CapacityError when the quota has no room now."""
        for node in nodes:
            servers.check_custom(self._cloud, node)
            servers.image_of(self._cloud, node)
        room.admit(self._cloud, [servers.flavor_of(self._cloud, node) for node in nodes])

    def nodes(self) -> Sequence[NodeView]:
        """Every server with a mark of the deployment. It has no tag: Vagrant's provider cannot give one."""
        with told("listing servers"):
            all_ = list(self._cloud.connection.compute.servers(details=True))
        return [_reached(server, view) for server in all_ for view in servers.views([server], self._deployment)]

    def environments(self) -> Mapping[str, float]:
        """Environments of which anything is there, and when their leases end."""
        return dict(groups.environments(self._cloud, self._deployment))

    def prepare(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> Mapping[str, Mapping[str, Any]]:
        """Make the security groups; what Vagrant's provider is told of each node."""
        cloud, mark = self._cloud, self._mark(request.environment_id)
        ids = groups.ensure(cloud, mark, request, groups.existing(cloud, mark))
        account = self.account()
        return {
            node.name: {**account, **server_keys(cloud, mark, request, node, groups.of_node(ids, node))}
            for node in nodes
        }

    def remove(self, id: str) -> None:
        """Remove a server and return when it is gone; one that is not there is no fault."""
        compute = self._cloud.connection.compute
        with told(f"deleting server {id}"):
            compute.delete_server(id, ignore_missing=True)
            server = compute.find_server(id)
            if server is not None:
                compute.wait_for_delete(server, wait=GONE_S)

    def release(self, environment_id: str) -> None:
        """Remove what was made around the servers of an environment."""
        remove(self._cloud, self._mark(environment_id), None)

    def _mark(self, environment_id: str) -> Mark:
        return Mark(self._deployment, environment_id)


def _reached(server: Any, view: NodeView) -> NodeView:
    """Nova made the port, so the address stands in what it shows and not in the metadata."""
    addresses = [one["addr"] for network in (server.addresses or {}).values() for one in network]
    return replace(view, address=next(iter(addresses), None))
