"""How nodes are connected, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.domain.blueprint import RoleSpec

Json = Mapping[str, Any]


def of_role(role: RoleSpec) -> str:
    """What a role asks for beside nodes; empty when it asks for nothing."""
    wiring = role.wiring(0)
    wires = _wires(role.networks, map(str, wiring.openings), wiring.virtual_address, floating=wiring.floating)
    server = [name for name, value in vars(role.custom).items() if value]
    return "; ".join((*wires, *([f"sets {', '.join(server)} of its servers"] if server else [])))


def of_nodes(found: Sequence[Json]) -> Iterator[str]:
    """A line for every node with more than the usual."""
    for node in found:
        networks = {name: (address,) if address else () for name, address in node["networks"].items()}
        told = "; ".join(_wires(networks, node["open"], node["virtual_address"], floating=node["floating"]))
        if told:
            yield f"{node['name']}: {told}"


def _wires(
    networks: Mapping[str, Sequence[str]], opened: Iterable[str], virtual_address: str, *, floating: bool
) -> Iterator[str]:
    if networks:
        yield "in " + ", ".join(f"{name} ({', '.join(given)})" if given else name for name, given in networks.items())
    if ports := ", ".join(opened):
        yield f"open {ports}"
    if virtual_address:
        yield f"may take over {virtual_address}"
    if floating:
        yield "floating address"
