"""What another inventory would change before it is in force: a dry run that writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.domain.changes import Changes, changes
from pipeline.domain.environments import Node
from pipeline.domain.inventory import Inventory, checked, usable
from pipeline.domain.placement.requests import demand_of
from pipeline.domain.registered import joined
from pipeline.domain.resources import DIMENSIONS, UNITS, Vector
from pipeline.envs.books import Books
from pipeline.envs.inventories import known_of, registered_at


@dataclass(frozen=True)
class Preview:
    """What a sync would change; by machine, what stands on it, and what it would lack of what was promised there."""

    changes: Changes
    standing: Mapping[str, tuple[str, ...]]
    short: Mapping[str, tuple[str, ...]]


def preview(books: Books, provider: str, declared: Inventory, now: float) -> Preview:
    """What `Inventories.sync` would do now; UserError as it would say."""
    declared = checked(joined(declared, registered_at(books, provider)))
    nodes: dict[str, list[Node]] = defaultdict(list)
    names: dict[str, list[str]] = defaultdict(list)
    for one in books.environments.everything(f"environments:standing:{provider}"):
        for node in one.value.nodes:
            nodes[node.machine].append(node)
            names[node.machine].append(f"{one.value.id}/{node.name}")
    known = known_of(books.inventories.find(provider), books.machines.everything(f"machines:{provider}"))
    found = changes(known, declared, frozenset(nodes), now)
    after = tuple(machine for _, machine in found.changed)
    amounts = zip(after, usable(replace(found.frame, machines=after)), strict=True)
    short = {machine.name: tuple(_short(amount, nodes[machine.name])) for machine, amount in amounts}
    return Preview(found, {name: tuple(there) for name, there in names.items()}, short)


def _short(amount: Vector, nodes: Iterable[Node]) -> Iterator[str]:
    """What of each resource was promised beyond the amount."""
    demands = [demand_of(node.resources, node.qos) for node in nodes]
    for at, dimension in enumerate(DIMENSIONS):
        over = sum(demand[at] for demand in demands) - amount[at]
        if over > 0:
            yield f"{over:.12g} {UNITS[dimension]}"
