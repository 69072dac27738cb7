"""Takes what bears a mark out of the cloud, in the order in which things hang on each other."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

from pipeline.adapters.drivers.openstack import apart, servers
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.groups import existing
from pipeline.adapters.drivers.openstack.wires import node_of
from pipeline.clients.openstack import each, marks, told
from pipeline.clients.openstack.marks import Mark
from pipeline.domain.errors import TransientError

#: How long servers may take to go, in seconds.
GONE_S = 180.0
#: How Neutron's owner of a server's port begins; the zone follows.
OF_SERVERS = "compute:"


def remove(cloud: Cloud, mark: Mark, nodes: Collection[str] | None) -> bool:
    """Remove these nodes (None: everything) and return when they are gone; what is not there is no fault.

    Tells whether anything of the environment was there. TransientError when servers do not go in time.
    """
    _remove_servers(cloud, mark, nodes)
    ports = cloud.described(cloud.connection.network.ports, "ports", mark)
    mine = [port for port in ports if nodes is None or node_of(mark, port.name) in nodes]
    _remove_floating(cloud, mark, mine, all_=nodes is None)
    network = cloud.connection.network
    what = f"deleting ports of environment {mark.environment_id}"
    _let_go(network, mine, what)
    _delete(network.delete_port, mine, what)
    groups = existing(cloud, mark)
    if nodes is None:
        kept_apart = apart.of_environment(cloud, mark)
        compute = cloud.connection.compute
        _delete(compute.delete_server_group, kept_apart, f"deleting server groups of environment {mark.environment_id}")
        own = cloud.described(network.networks, "networks", mark)
        _delete(network.delete_network, own, f"deleting networks of environment {mark.environment_id}")
        _delete(network.delete_security_group, groups, f"deleting security groups of environment {mark.environment_id}")
    return bool(groups)


def _remove_servers(cloud: Cloud, mark: Mark, nodes: Collection[str] | None) -> None:
    there = servers.of_environment(cloud, mark)
    left = {one.id: one for one in there if nodes is None or one.metadata.get(marks.NODE) in nodes}
    deadline = time.monotonic() + GONE_S
    what = f"deleting servers of environment {mark.environment_id}"
    _delete(
        cloud.connection.compute.delete_server, [one for one in left.values() if one.task_state != "deleting"], what
    )
    while left:
        if time.monotonic() > deadline:
            names = ", ".join(sorted(one.name for one in left.values()))
            raise TransientError(f"environment {mark.environment_id}: {names} did not go within {GONE_S:.0f} s")
        seen = {one.id for one in cloud.looks.after(time.monotonic())}
        left = {id: one for id, one in left.items() if id in seen}


def _remove_floating(cloud: Cloud, mark: Mark, ports: Sequence[Any], *, all_: bool) -> None:
    network = cloud.connection.network
    found = cloud.described(network.ips, "floating addresses", mark)
    ids = {port.id for port in ports}
    mine = [one for one in found if all_ or one.port_id in ids]
    _delete(network.delete_ip, mine, f"deleting floating addresses of environment {mark.environment_id}")


def drop_strays(cloud: Cloud, mark: Mark) -> None:
    """Give back floating addresses of ports that are gone: nobody makes one while the environment's lock is held."""
    network = cloud.connection.network
    strays = [one for one in cloud.described(network.ips, "floating addresses", mark) if not one.port_id]
    _delete(network.delete_ip, strays, f"deleting floating addresses of environment {mark.environment_id}")


def _let_go(network: Any, ports: Sequence[Any], what: str) -> None:
    """Take ports from servers that are gone: Neutron's owner of a port may not delete a server's (403).

    Nova does it itself before a server goes, but not when that was still being scheduled.
    """
    from openstack.exceptions import NotFoundException

    def one(port: Any) -> None:
        with told(what), suppress(NotFoundException):
            network.update_port(port.id, device_id="", device_owner="")

    each(one, [port for port in ports if port.device_owner.startswith(OF_SERVERS)])


def _delete(call: Any, things: Sequence[Any], what: str) -> None:
    def one(thing: Any) -> None:
        with told(what):
            call(thing.id, ignore_missing=True)

    each(one, things)
