"""A role of an environment goes to machines of another kind or place while it serves.

As many nodes come as are there, under other rules; when they are in service, the old ones leave the traffic, stand for
a while, and go. Until then everything can go back.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from pipeline.domain import resizing
from pipeline.domain.environments import Environment, Node, NodeState
from pipeline.domain.errors import UserError
from pipeline.domain.inventory import Inventory, MachineKind, traits_of
from pipeline.domain.rules import Affinity, Attribute, BareMetal, PlacementRules, Stance
from pipeline.domain.scaling import Move, Scaling

N = NodeState
BARE_METAL, VM = "bare-metal", "vm"
#: Where a role may be moved to by name.
PLACES = {"zone": Attribute.ZONE, "aggregate": Attribute.AGGREGATE}
#: Old nodes stand for so long without traffic before they go, where nobody says, and at most; in seconds.
KEEP_S = 300.0
MOST_KEEP_S = 86_400.0
#: Where rules of a move come from.
SOURCE = "greenroom env move"


def wish_of(to: str) -> Affinity:
    """The rule that says `bare-metal`, `vm`, `zone=NAME` or `aggregate=NAME`; UserError for anything else."""
    if to in {BARE_METAL, VM}:
        stance = Stance.REQUIRE if to == BARE_METAL else Stance.FORBID
        return Affinity(stance, Attribute.KIND, (str(MachineKind.BARE_METAL),), SOURCE)
    kind, _, name = to.partition("=")
    if kind not in PLACES or not name:
        raise UserError(f"to: {to!r}: expected bare-metal, vm, zone=NAME or aggregate=NAME")
    return Affinity(Stance.REQUIRE, PLACES[kind], (name,), SOURCE)


def check_known(wish: Affinity, inventory: Inventory, provider: str) -> None:
    """UserError when a rule names a zone or an aggregate that is not there."""
    known = {
        Attribute.ZONE: [zone.name for zone in inventory.zones],
        Attribute.AGGREGATE: [one.name for one in inventory.aggregates],
    }.get(wish.attribute)
    name = wish.values[0]
    if known is not None and name not in known:
        there = ", ".join(known) or "none"
        raise UserError(f"to: provider {provider} has no {wish.attribute} {name!r}; there are: {there}")


def stands_there(environment: Environment, role: str, wish: Affinity, inventory: Inventory) -> bool:
    """Whether every node of a role is where the rule wants it."""
    machines = {machine.name: machine for machine in inventory.machines}

    def fits(name: str) -> bool:
        has = name in machines and not traits_of(machines[name], wish.attribute, inventory).isdisjoint(wish.values)
        return has is (wish.stance is Stance.REQUIRE)

    return all(fits(node.machine) for node in environment.of_role(role))


def ruled(rules: PlacementRules, wish: Affinity) -> PlacementRules:
    """The rules of a role from now on: what the blueprint, or an earlier move, said of the same attribute is over.

    What operator and project lay on it is not among these rules, and stays.
    """
    kept = [one for one in rules.affinities if one.attribute is not wish.attribute]
    if wish.attribute is not Attribute.KIND:
        return replace(rules, affinities=(*kept, wish))
    bare_metal = BareMetal.REQUIRED if wish.stance is Stance.REQUIRE else None
    return replace(rules, affinities=(*kept, wish), bare_metal=bare_metal)


def moving(environment: Environment, scaling: Scaling, to: str, keep_s: float) -> Environment:
    """With nodes that are to come elsewhere: they have names, and nothing else yet. Errors: those of `grown`."""
    role, standing = scaling.role, environment.of_role(scaling.role)
    twice = resizing.grown(environment, replace(scaling, count=2 * len(standing)))
    assert twice.scaling is not None, "nodes are to come"  # noqa: S101  # says it to the reader
    before = environment.rules.roles.get(role, PlacementRules())
    move = Move(to, tuple(node.name for node in standing), before, keep_s)
    begun = replace(twice, scaling=replace(twice.scaling, count=len(standing), moves=move))
    return _under(begun, role, ruled(before, wish_of(to)))


def as_if_there(environment: Environment, scaling: Scaling) -> Environment:
    """As it is when the nodes that come are in service: what the guards say of those that leave, is said of that."""
    there = [replace(node, state=N.IN_SERVICE) if node.name in scaling.coming else node for node in environment.nodes]
    return environment.with_nodes(there)


def have_come(environment: Environment) -> bool:
    """Whether those that come are in service, and the old ones are to leave."""
    scaling = environment.scaling
    if scaling is None or scaling.moves is None or not scaling.coming or scaling.fault:
        return False
    return all(node.state is N.IN_SERVICE for node in environment.named(scaling.coming))


def leave(environment: Environment, scaling: Scaling, move: Move, now: float) -> Environment:
    """The old nodes, which drain, are those that go."""
    going = replace(scaling, coming=(), going=move.leaving, reason="", moves=replace(move, since=now))
    return replace(environment, scaling=going, not_before=0.0)


def can_go_back(environment: Environment) -> bool:
    """Whether old nodes of a role that was moved still stand, and are to go."""
    scaling = environment.scaling
    move = scaling.moves if scaling is not None else None
    if scaling is None or move is None or move.back or scaling.going != move.leaving:
        return False
    return all(node.state is N.DRAINING for node in environment.named(move.leaving))


def lost_there(environment: Environment) -> str:
    """Which new node is lost while the old ones still stand, and why; empty when none is."""
    scaling = environment.scaling
    if scaling is None or not can_go_back(environment):
        return ""
    lost = [node for node in environment.of_role(scaling.role) if node.state is N.LOST]
    return "; ".join(f"node {node.name} is lost: {node.fault}" for node in lost)


def goes_back(environment: Environment, scaling: Scaling, move: Move, why: str, now: float) -> Environment:
    """The old nodes are in service again; those that came drain, and go at once after that."""
    new = tuple(node.name for node in environment.of_role(scaling.role) if node.name not in move.leaving)
    back = environment.with_nodes(_turned(environment, move.leaving, new))
    turned = replace(move, back=why, since=now)
    swapped = replace(scaling, coming=(), going=new, drained_at=0.0, reason="", moves=turned)
    return _under(replace(back, scaling=swapped, not_before=0.0), scaling.role, move.before)


def _turned(environment: Environment, old: tuple[str, ...], new: tuple[str, ...]) -> Iterator[Node]:
    for node in environment.nodes:
        if node.name in old and node.state is N.DRAINING:
            yield node.to(N.REACHABLE).to(N.IN_SERVICE)
        elif node.name in new and node.state is N.IN_SERVICE:
            yield node.to(N.DRAINING)
        else:
            yield node


def over(environment: Environment, scaling: Scaling) -> Environment:
    """What became of a move: where it failed, its role has the rules that it had; `degraded` says so."""
    move = scaling.moves
    why = scaling.fault or (move.back if move is not None else "")
    if move is None or not why:
        return environment
    told = f"role {scaling.role} was not moved to {move.to}: {why}"
    return _under(replace(environment, degraded=told), scaling.role, move.before)


def _under(environment: Environment, role: str, rules: PlacementRules) -> Environment:
    roles = {**environment.rules.roles, role: rules}
    return replace(environment, rules=replace(environment.rules, roles=roles))
