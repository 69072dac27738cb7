"""Operator rules that leave no machine to what they match: the file that says both is wrong, not whoever asks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

from pipeline.domain.inventory import Inventory, traits_of
from pipeline.domain.rules import Affinity, OperatorRule, Stance

Machines = frozenset[int]


@dataclass(frozen=True)
class Contradiction:
    """Two hard affinities that no machine satisfies at once; `rule` and `other` are the same where one rule says both.

    Rules are told by their place in the inventory.
    """

    rule: int
    affinity: Affinity
    other: int
    against: Affinity


def contradictions(inventory: Inventory) -> Iterator[Contradiction]:
    """The first one within each rule, then between each two rules that both hold for something that they name."""

    @cache
    def permitted(affinity: Affinity) -> Machines:
        wanted = affinity.stance is Stance.REQUIRE
        return frozenset(
            at
            for at, machine in enumerate(inventory.machines)
            if wanted is not traits_of(machine, affinity.attribute, inventory).isdisjoint(affinity.values)
        )

    def first(at: int, other: int) -> Iterator[Contradiction]:
        mine, theirs = _hard(inventory.rules[at]), _hard(inventory.rules[other])
        pairs = combinations(mine, 2) if at == other else product(mine, theirs)
        for affinity, against in pairs:
            alone = permitted(affinity), permitted(against)
            if not alone[0] & alone[1] and (at == other or all(alone)):
                yield Contradiction(at, affinity, other, against)
                return

    rules = range(len(inventory.rules))
    for at in rules:
        yield from first(at, at)
    for at, other in combinations(rules, 2):
        if _meet(inventory.rules[at], inventory.rules[other]):
            yield from first(at, other)


def _hard(rule: OperatorRule) -> tuple[Affinity, ...]:
    return tuple(one for one in rule.affinities if one.stance is not Stance.PREFER)


def _meet(rule: OperatorRule, other: OperatorRule) -> bool:
    """Whether both hold for something that one of them names; a service's and a role's rule may never meet."""
    keys, others = set(rule.match), set(other.match)
    nested = keys <= others or others <= keys
    return nested and all(set(rule.match[key]) & set(other.match[key]) for key in keys & others)
