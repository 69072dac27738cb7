"""Rules of networks and addresses that a schema cannot say. Takes data that may be wrong in any way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.clients.yaml12.check import nearest
from pipeline.clients.yaml12.loose import mapping, sequence
from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.errors import Finding
from pipeline.domain.wiring import lies_in

#: What our own marks begin with.
MARK = "greenroom"


def wiring_findings(tree: Tree, roles: Mapping[str, Any]) -> Iterator[Finding]:
    """Networks that are none, addresses that do not fit, and metadata that would look like our marks."""
    networks = mapping(mapping(mapping(tree.data).get("environment")).get("networks"))
    seen: dict[tuple[str, str], Path] = {}
    for name, role in roles.items():
        path: Path = ("environment", "roles", name)
        yield from _unknown(tree, path, mapping(role).get("networks"), networks)
        yield from _addresses(tree, path, mapping(role), networks, seen)
        for key in mapping(mapping(mapping(role).get("server")).get("metadata")):
            if str(key).startswith(MARK):
                yield tree.at_key((*path, "server", "metadata", key), f"names with {MARK} are Greenroom's own marks")


def _unknown(tree: Tree, path: Path, told: object, networks: Mapping[str, Any]) -> Iterator[Finding]:
    for i, name in enumerate(sequence(told)):
        if isinstance(name, str) and name not in networks:
            message = f"no network {name[:80]} in environment.networks{nearest(name, networks)}"
            yield tree.at_value((*path, "networks", i), message)
    for name in mapping(told):
        if name not in networks:
            message = f"no network {str(name)[:80]} in environment.networks{nearest(str(name), networks)}"
            yield tree.at_key((*path, "networks", name), message)


def _addresses(
    tree: Tree, path: Path, role: Mapping[str, Any], networks: Mapping[str, Any], seen: dict[tuple[str, str], Path]
) -> Iterator[Finding]:
    count = role.get("count", 1)
    for name, told in mapping(role.get("networks")).items():
        place: Path = (*path, "networks", name)
        given = [told] if isinstance(told, str) else list(sequence(told))
        if isinstance(count, int) and len(given) != count:
            yield tree.at_value(place, f"expected an address for each of {count} nodes, got {len(given)}")
        cidr = mapping(networks.get(name)).get("cidr")
        for address in given:
            if isinstance(cidr, str) and isinstance(address, str) and _outside(address, cidr):
                yield tree.at_value(place, f"{address} is no address of {cidr}")
            if seen.setdefault((str(name), str(address)), place) != place or given.count(address) > 1:
                yield tree.at_value(place, f"{address} stands there twice")


def _outside(address: str, cidr: str) -> bool:
    try:
        return not lies_in(address, cidr)
    except ValueError:
        return False  # the schema's formats say so
