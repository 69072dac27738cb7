"""Ports, networks and floating addresses: made before the server, so that it knows its addresses when it boots.

Where something else has Nova make servers and their ports, what a port lacks is added to it afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.groups import of_node
from pipeline.clients.openstack import Mark, each, told, whole
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.wiring import Network
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

#: The one network that every environment is in, among those of a request.
MAIN = ""
#: What the port that keeps a virtual address is called, behind the environment's id.
VIRTUAL = "virtual"


@dataclass(frozen=True)
class Wires:
    """What a server is connected by: its ports in the order of its networks, where it is reached, where inside, and its
    addresses in further networks.
    """

    ports: tuple[str, ...]
    address: str
    inside: str
    further: Mapping[str, str]


def networks(cloud: Cloud, mark: Mark, wanted: Sequence[Network]) -> Mapping[str, str]:
    """Ids of the networks of an environment by name, `MAIN` among them; its own are made where they are missing."""
    ids = {MAIN: cloud.names.network(cloud.terms.network)}
    ids |= {one.name: cloud.names.network(one.shared) for one in wanted if one.shared}
    own = [one for one in wanted if not one.shared]
    found = (
        {one.name: one for one in cloud.described(cloud.connection.network.networks, "networks", mark)} if own else {}
    )
    return ids | {one.name: _own_network(cloud, mark, one, found.get(mark.name_of(one.name))) for one in own}


def _own_network(cloud: Cloud, mark: Mark, wanted: Network, found: Any) -> str:
    name = mark.name_of(wanted.name)
    what = f"creating network {wanted.name} of environment {mark.environment_id}"
    with told(what):
        network = found or cloud.connection.network.create_network(name=name, description=mark.description)
        id = whole(what, network.id)
        if not network.subnet_ids:
            version = 6 if ":" in wanted.cidr else 4
            named: dict[str, Any] = {"network_id": id, "name": name, "description": mark.description}
            # without DHCP, since the config drive tells nodes their addresses
            plain = {"ip_version": version, "cidr": wanted.cidr, "gateway_ip": None, "is_dhcp_enabled": False}
            cloud.connection.network.create_subnet(**named, **plain)
    return id


def connect(
    cloud: Cloud,
    mark: Mark,
    request: EnvironmentRequest,
    nodes: Sequence[NodeRequest],
    groups: Mapping[str, str],
    *,
    fresh: bool,
) -> Mapping[str, Wires]:
    """Ports and floating addresses of nodes, by name; `fresh`: nothing of the environment was there before."""
    ids = networks(cloud, mark, request.networks)
    there = [] if fresh else cloud.described(cloud.connection.network.ports, "ports", mark)
    wanted = [body for node in nodes for body in _bodies(mark, node, ids, groups)]
    wanted += _virtual_bodies(mark, request, ids)
    by_name = {one.name: one for one in there}
    made = _create_ports(cloud, mark, [body for body in wanted if body["name"] not in by_name])
    by_name |= {one.name: one for one in made}
    floating = _floating(cloud, mark, nodes, by_name, fresh=fresh)
    return {node.name: _wires(mark, node, by_name, floating) for node in nodes}


def reserve(cloud: Cloud, mark: Mark, request: EnvironmentRequest) -> Mapping[str, str]:
    """Make networks and keep virtual addresses for servers whose ports Nova will make; ids of networks by name."""
    ids = networks(cloud, mark, request.networks)
    virtual = list(_virtual_bodies(mark, request, ids))
    there = {one.name for one in cloud.described(cloud.connection.network.ports, "ports", mark)} if virtual else set()
    _create_ports(cloud, mark, [body for body in virtual if body["name"] not in there])
    return ids


def adopt(cloud: Cloud, mark: Mark, request: EnvironmentRequest, servers: Mapping[str, str]) -> Mapping[str, Wires]:
    """Give ports that Nova made what `connect` gives its own, and floating addresses; `servers`: their ids by node.

    TransientError when a server has not all its ports.
    """
    nodes = [node for node in request.nodes if node.name in servers]
    ids = networks(cloud, mark, request.networks)

    def one(node: NodeRequest) -> dict[str, Any]:
        return _adopted(cloud, mark, node, servers[node.name], ids)

    ports = {name: port for found in each(one, nodes) for name, port in found.items()}
    floating = _floating(cloud, mark, nodes, ports, fresh=False)
    return {node.name: _wires(mark, node, ports, floating) for node in nodes}


def _adopted(cloud: Cloud, mark: Mark, node: NodeRequest, server: str, ids: Mapping[str, str]) -> dict[str, Any]:
    """A server's ports by name."""
    network = cloud.connection.network
    with told(f"marking the ports of server {server} of node {node.name}"):
        there = {port.network_id: port for port in network.ports(device_id=server)}
        lacking = [name or cloud.terms.network for _, name, _ in _names(mark, node) if ids[name] not in there]
        if lacking:
            raise TransientError(f"server {server} of node {node.name} has no port in {', '.join(lacking)}")
        return {
            name: network.update_port(there[ids[on]].id, name=name, description=mark.description, **_pairs(node, on))
            for name, on, _ in _names(mark, node)
        }


def _create_ports(cloud: Cloud, mark: Mark, bodies: list[dict[str, Any]]) -> list[Any]:
    if not bodies:
        return []
    with told(f"creating ports of environment {mark.environment_id}"):
        return list(cloud.connection.network.create_ports(bodies))


def _names(mark: Mark, node: NodeRequest) -> Iterator[tuple[str, str, str]]:
    """Name, network and fixed address of each port of a node, the main one first."""
    yield mark.name_of(node.name), MAIN, ""
    for one in node.wiring.attachments:
        yield f"{mark.name_of(node.name)}.{one.network}", one.network, one.address


def node_of(mark: Mark, port: str) -> str:
    """The node of a port, by the port's name; empty for the port that keeps a virtual address."""
    name = port.removeprefix(mark.name_of(""))
    return "" if _is_virtual(name) else name.partition(".")[0]


def _is_virtual(name: str) -> bool:
    """Whether a name ends with an address: a role may be called `virtual`, too."""
    try:
        ip_address(name.removeprefix(f"{VIRTUAL}-"))
    except ValueError:
        return False
    return True


def ports_of(nodes: Sequence[NodeRequest]) -> int:
    """How many ports these nodes need."""
    return sum(1 + len(node.wiring.attachments) for node in nodes)


def _bodies(
    mark: Mark, node: NodeRequest, networks_: Mapping[str, str], groups: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for name, network, address in _names(mark, node):
        body: dict[str, Any] = {
            "name": name,
            "description": mark.description,
            "network_id": networks_[network],
            "security_groups": of_node(groups, node),
            **_pairs(node, network),
        }
        if address:
            body["fixed_ips"] = [{"ip_address": address}]
        yield body


def _pairs(node: NodeRequest, network: str) -> dict[str, Any]:
    """What lets a node use its virtual address, which is one of the main network."""
    virtual = node.wiring.virtual_address if network == MAIN else ""
    return {"allowed_address_pairs": [{"ip_address": virtual}]} if virtual else {}


def _virtual_bodies(mark: Mark, request: EnvironmentRequest, ids: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """A port of its own keeps a virtual address from being given to anybody else."""
    for address in sorted({node.wiring.virtual_address for node in request.nodes} - {""}):
        yield {
            "name": mark.name_of(f"{VIRTUAL}-{address}"),
            "description": mark.description,
            "network_id": ids[MAIN],
            "fixed_ips": [{"ip_address": address}],
            "security_groups": [],
        }


def _floating(
    cloud: Cloud, mark: Mark, nodes: Sequence[NodeRequest], ports: Mapping[str, Any], *, fresh: bool
) -> Mapping[str, str]:
    """Floating addresses by node, where one is wanted."""
    wanted = [node for node in nodes if cloud.terms.floating or node.wiring.floating]
    if not wanted:
        return {}
    if not cloud.terms.external_network:
        raise PermanentError(
            f"node {wanted[0].name} is to have a floating address, and the provider's settings name no external_network"
        )
    external = cloud.names.external(cloud.terms.external_network)
    there = [] if fresh else cloud.described(cloud.connection.network.ips, "floating addresses", mark)
    by_port = {one.port_id: one.floating_ip_address for one in there if one.port_id}

    def one(node: NodeRequest) -> str:
        port = ports[mark.name_of(node.name)]
        if port.id in by_port:
            return str(by_port[port.id])
        what = f"creating the floating address of node {node.name} of environment {mark.environment_id}"
        with told(what):
            made = cloud.connection.network.create_ip(
                floating_network_id=external, port_id=port.id, description=mark.description
            )
        return whole(what, made.floating_ip_address)

    return dict(zip([node.name for node in wanted], each(one, wanted), strict=True))


def _wires(mark: Mark, node: NodeRequest, ports: Mapping[str, Any], floating: Mapping[str, str]) -> Wires:
    found = {network: ports[name] for name, network, _ in _names(mark, node)}
    further = {network: _address(port) for network, port in found.items()}
    inside = further.pop(MAIN)
    return Wires(tuple(port.id for port in found.values()), floating.get(node.name, inside), inside, further)


def _address(port: Any) -> str:
    """Empty on a network that gives none."""
    return str(port.fixed_ips[0]["ip_address"]) if port.fixed_ips else ""
