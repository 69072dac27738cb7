"""What a schema cannot say: names that stand twice or nowhere, sums, rules that contradict each other.

Takes data that may be wrong in any way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.clients.yaml12.check import nearest
from pipeline.clients.yaml12.loose import mapping, mappings, texts
from pipeline.clients.yaml12.tree import Path, Tree
from pipeline.domain.contradictions import contradictions
from pipeline.domain.errors import Finding
from pipeline.domain.inventory import MOST_MACHINES, Inventory, MachineKind, count_of, names_of_pattern
from pipeline.domain.rules import Affinity, Attribute, Stance

Known = Mapping[str, frozenset[str]]
_LISTS = {"zones": "zone", "aggregates": "aggregate", "rules": "rule"}


def name_findings(tree: Tree) -> Iterator[Finding]:
    """Names that stand twice or nowhere, and more machines than there may be."""
    for key, what in _LISTS.items():
        yield from twice(tree, key, what)
    if _machine_count(tree) > MOST_MACHINES:
        yield tree.at_value(("machines",), f"expected at most {MOST_MACHINES} machines in all, got more")
        return
    machines = [(i, name) for i, one in mappings(tree.data, "machines") for name in _expanded(one)]
    yield from _twice(tree, "machines", "machine", iter(machines))
    known = _known(tree.data, frozenset(name for _, name in machines))
    yield from _places(tree, known)
    yield from _rules(tree, known)
    yield from _drains(tree)


def twice(tree: Tree, key: str, what: str) -> Iterator[Finding]:
    """Entries of the list at `key` that have a name which stood there before."""
    named = ((i, one.get("name")) for i, one in mappings(tree.data, key))
    yield from _twice(tree, key, what, ((i, name) for i, name in named if isinstance(name, str)))


def contradiction_findings(tree: Tree, inventory: Inventory) -> Iterator[Finding]:
    """Rules of which one takes away what the other asks for; both are named."""
    for found in contradictions(inventory):
        mine, theirs = inventory.rules[found.rule].name, inventory.rules[found.other].name
        path, against = _path_of(found.rule, found.affinity), _path_of(found.other, found.against)
        line = tree.at_key(path, "").line
        which = f"rule {mine} in line {line}" if mine != theirs else f"line {line} of the same rule"
        told = f"{_said(found.against)}, but {which} {_said(found.affinity)}"
        yield tree.at_key(against, f"rule {theirs} {told}: no machine is left; change one of them")


def _path_of(rule: int, affinity: Affinity) -> Path:
    return ("rules", rule, str(affinity.stance), str(affinity.attribute))


def _said(affinity: Affinity) -> str:
    return f"{affinity.stance}s {affinity.attribute} {' or '.join(affinity.values)}"


def _twice(tree: Tree, key: str, what: str, named: Iterator[tuple[int, str]]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    told: set[int] = set()
    for i, name in named:
        before = first.setdefault(name, i)
        if before != i and i not in told:
            told.add(i)
            line = tree.at_value((key, before, "name"), "").line
            yield tree.at_value((key, i, "name"), f"{what} {name} stands here again, first in line {line}; rename one")


def _expanded(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of one entry; none when the schema's format has said what is wrong with them."""
    return tuple(names_of_pattern(machine["name"])) if _counted(machine) else ()


def _counted(machine: Mapping[str, Any]) -> int:
    name = machine.get("name")
    try:
        return count_of(name) if isinstance(name, str) else 0
    except ValueError:
        return 0  # the schema's format says so


def _machine_count(tree: Tree) -> int:
    return sum(_counted(one) for _, one in mappings(tree.data, "machines"))


def _known(data: object, machines: frozenset[str]) -> Known:
    """Every name that a machine or a rule may use, by attribute."""
    zones, aggregates = ([one for _, one in mappings(data, key)] for key in ("zones", "aggregates"))
    featured = [*aggregates, *(one for _, one in mappings(data, "machines"))]
    return {
        Attribute.REGION: frozenset(name for zone in zones for name in texts(zone.get("region", "default"))),
        Attribute.ZONE: frozenset(name for zone in zones for name in texts(zone.get("name"))),
        Attribute.AGGREGATE: frozenset(name for one in aggregates for name in texts(one.get("name"))),
        Attribute.FEATURE: frozenset(name for one in featured for name in texts(one.get("features"))),
        Attribute.KIND: frozenset(MachineKind),
        Attribute.MACHINE: machines,
    }


def _places(tree: Tree, known: Known) -> Iterator[Finding]:
    for i, machine in mappings(tree.data, "machines"):
        yield from _unknown(tree, ("machines", i, "zone"), Attribute.ZONE, machine.get("zone"), known)
        yield from _unknown(tree, ("machines", i, "aggregates"), Attribute.AGGREGATE, machine.get("aggregates"), known)


def _rules(tree: Tree, known: Known) -> Iterator[Finding]:
    for i, rule in mappings(tree.data, "rules"):
        for stance in Stance:
            for attribute, values in mapping(rule.get(stance)).items():
                if attribute in known:
                    yield from _unknown(tree, ("rules", i, str(stance), attribute), attribute, values, known)


def _unknown(tree: Tree, path: Path, attribute: str, values: object, known: Known) -> Iterator[Finding]:
    names = known[attribute]
    for at, name in enumerate(texts(values)):
        if name not in names:
            where = (*path, at) if isinstance(values, list) else path
            yield tree.at_value(where, f"no {attribute} {name[:80]} in this inventory{nearest(name, names)}")


def _drains(tree: Tree) -> Iterator[Finding]:
    limits = mapping(mapping(tree.data).get("limits"))
    full = mapping(limits.get("full"))
    for name, drain in mapping(limits.get("drain")).items():
        bound = full.get(name)
        if isinstance(drain, int | float) and isinstance(bound, int | float) and drain < bound:
            line = tree.at_value(("limits", "full", name), "").line
            message = f"expected at least {bound}, at which line {line} calls the machine full, got {drain}"
            yield tree.at_value(("limits", "drain", name), message)
