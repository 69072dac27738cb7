"""Rules of networks, openings and servers that a schema cannot say. Takes data that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from pipeline.clients.yaml12.check import nearest
from pipeline.clients.yaml12.loose import mapping, sequence
from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding
from pipeline.domain.wiring import ANYWHERE, Opening, lies_in, overlap, parse_cidr, parse_opening, room_in

#: What our own marks begin with.
MARK = "greenroom"
T = TypeVar("T")
Data = Mapping[str, Any]
#: Where each address of each network was told first.
Seen = dict[tuple[str, str], Path]


def wiring_findings(tree: Tree, roles: Data) -> Iterator[Finding]:
    """Networks that are none or in each other's way, addresses that do not fit, ports opened twice, settings of servers
    that cannot be.
    """
    networks = mapping(mapping(mapping(tree.data).get("environment")).get("networks"))
    yield from _in_the_way(tree, networks)
    yield from _too_small(tree, roles, networks)
    seen: Seen = {}
    for name, role in roles.items():
        path: Path = ("environment", "roles", name)
        yield from _unknown(tree, path, mapping(role).get("networks"), networks)
        yield from _addresses(tree, path, mapping(role), networks, seen)
        yield from _opened_twice(tree, path, mapping(role))
        yield from _server(tree, (*path, "server"), mapping(mapping(role).get("server")))


def _in_the_way(tree: Tree, networks: Data) -> Iterator[Finding]:
    """Networks of which two are one, or have addresses in common."""
    names = list(networks)
    for i, name in enumerate(names):
        for earlier in names[:i]:
            for key, clash, what in (("cidr", _overlap, "overlaps with"), ("shared", _same, "is that of")):
                mine, other = (mapping(networks[one]).get(key) for one in (name, earlier))
                if isinstance(mine, str) and isinstance(other, str) and clash(mine, other):
                    line = tree.at_value(("environment", "networks", earlier, key), "").line
                    message = f"{mine[:80]} {what} network {earlier} in line {line}; leave one of them out"
                    yield tree.at_value(("environment", "networks", name, key), message)


def _too_small(tree: Tree, roles: Data, networks: Data) -> Iterator[Finding]:
    for name, told in networks.items():
        cidr = mapping(told).get("cidr")
        wanted = sum(node_count(role) for role in roles.values() if name in _attached(role))
        room = _tried(room_in, cidr) if isinstance(cidr, str) else None
        if room is not None and wanted > room:
            message = f"{cidr} has addresses for {room} nodes, and {wanted} are attached to it"
            yield tree.at_value(("environment", "networks", name, "cidr"), message)


def _attached(role: object) -> tuple[object, ...]:
    told = mapping(role).get("networks")
    return (*sequence(told), *mapping(told))


def _unknown(tree: Tree, path: Path, told: object, networks: Data) -> Iterator[Finding]:
    for i, name in enumerate(sequence(told)):
        if isinstance(name, str) and name not in networks:
            message = f"no network {name[:80]} in environment.networks{nearest(name, networks)}"
            yield tree.at_value((*path, "networks", i), message)
    for name in mapping(told):
        if name not in networks:
            message = f"no network {str(name)[:80]} in environment.networks{nearest(str(name), networks)}"
            yield tree.at_key((*path, "networks", name), message)


def _addresses(tree: Tree, path: Path, role: Data, networks: Data, seen: Seen) -> Iterator[Finding]:
    count = node_count(role)
    for name, told in mapping(role.get("networks")).items():
        place: Path = (*path, "networks", name)
        given = [told] if isinstance(told, str) else list(sequence(told))
        if len(given) != count:
            yield tree.at_value(place, f"expected an address for each of {count} nodes, got {len(given)}")
        cidr = mapping(networks.get(name)).get("cidr")
        for i, address in enumerate(given):
            at: Path = place if isinstance(told, str) else (*place, i)
            if isinstance(cidr, str) and isinstance(address, str) and _tried(lies_in, address, cidr) is False:
                yield tree.at_value(at, f"{address} is no address for a node in {cidr}")
            first = seen.setdefault((str(name), str(address)), at)
            if first != at:
                yield tree.at_value(at, f"{address} stands in line {tree.at_value(first, '').line} already")


def _opened_twice(tree: Tree, path: Path, role: Data) -> Iterator[Finding]:
    """A cloud refuses a second rule that is the same."""
    seen: dict[Opening, int] = {}
    for i, told in enumerate(sequence(role.get("open"))):
        port, source = (
            (told, ANYWHERE) if isinstance(told, str) else (mapping(told).get("port"), mapping(told).get("from"))
        )
        opening = _tried(_opening, port, source) if isinstance(port, str) and isinstance(source, str) else None
        if opening is not None and seen.setdefault(opening, i) != i:
            yield tree.at_value((*path, "open", i), f"{port} is open to {source} already")


def _opening(port: str, source: str) -> Opening:
    return parse_opening(port, parse_cidr(source))


def _server(tree: Tree, path: Path, server: Data) -> Iterator[Finding]:
    for key in mapping(server.get("metadata")):
        if str(key).lower().startswith(MARK):
            yield tree.at_key((*path, "metadata", key), f"names with {MARK} are Greenroom's own marks")
    if "flavor" in server and "extra_specs" in server:
        message = "a flavor that is named has extra specs of its own; leave `flavor` or `extra_specs` out"
        yield tree.at_key((*path, "extra_specs"), message)


def node_count(role: object) -> int:
    """How many nodes a role asks for, where it says so in a way that makes sense."""
    count = mapping(role).get("count", 1)
    return count if isinstance(count, int) and count > 0 else 1


def _same(one: str, other: str) -> bool:
    return one == other


def _overlap(one: str, other: str) -> bool:
    return _tried(overlap, one, other) is True


def _tried(judge: Callable[..., T], *texts: str) -> T | None:
    """None where a text is not what it should be: the schema's formats say so."""
    try:
        return judge(*texts)
    except ValueError:
        return None
