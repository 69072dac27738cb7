"""Further nodes of an environment that stands: placed by the rules of the whole, with what stands left where it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from pipeline.domain.environments import Environment, Node
from pipeline.domain.placement import engine
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Decision, Placed, Request, RoleRequest
from pipeline.domain.placement.requests import away_from, request_of, standing_of
from pipeline.domain.placement.shapes import machine_share, shape_of, zone_share
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, PlacementRules, Spread, Stance, Within

SOURCE = "the nodes that stand"


def place_further(
    fleet: Fleet, environment: Environment, names: Sequence[str], rules: Iterable[OperatorRule], now: float
) -> tuple[Environment, Decision]:
    """The environment with machines for these nodes, and the answer to the last of them.

    They are placed one by one; unless the answer is `Placed`, nothing of it counts. The fleet, which counts what stands
    of the environment already, is used up.
    """
    laid, placed = tuple(rules), environment
    decision: Decision = Placed({})
    for name in names:
        decision = engine.decide(fleet, _request(fleet, placed, name, laid), now)
        if not isinstance(decision, Placed):
            return environment, decision
        placed = _with_place(fleet, placed, name, decision)
        fleet.add(standing_of(placed.with_nodes(placed.named({name}))))
    return placed, decision


def _with_place(fleet: Fleet, environment: Environment, name: str, decision: Placed) -> Environment:
    def placed(node: Node) -> Node:
        if node.name != name:
            return node
        machine = decision.machines[node.role][0]
        apart = decision.apart_from.get(node.role, ())
        return replace(node, machine=machine, zone=fleet.zone_of(machine), apart_from=apart)

    return environment.with_nodes(placed(node) for node in environment.nodes)


def _request(fleet: Fleet, environment: Environment, name: str, laid: tuple[OperatorRule, ...]) -> Request:
    """One node alone, kept off where its role has its share, and near to what it has to be near to."""
    environment = _staying(environment)
    whole = request_of(environment, laid)
    node = environment.named({name})[0]
    role = next(one for one in whole.roles if one.role == node.role)
    standing = [one for one in environment.of_role(node.role) if one.machine and one.name != name]
    shape = shape_of(fleet, whole, role)
    full = _full((one.zone for one in standing), zone_share(shape, role))
    crowded = _full((one.machine for one in standing), machine_share(shape, role))
    alone = replace(role, count=1, rules=_alone(role, [*_beside(environment, role, fleet), *_off(full, crowded)]))
    failed = (*environment.avoid, *(environment.scaling.avoid if environment.scaling is not None else ()))
    return away_from(replace(whole, roles=(alone,), within=Within.ANYWHERE), failed)


def _staying(environment: Environment) -> Environment:
    """Nodes that leave for those that come count for no rule about their role."""
    move = environment.scaling.moves if environment.scaling is not None else None
    leaving = move.leaving if move is not None else ()
    return environment.with_nodes(node for node in environment.nodes if node.name not in leaving)


def _alone(role: RoleRequest, affinities: Sequence[Affinity]) -> PlacementRules:
    """The rules of one node of a role, where those about the others are told as machines and zones."""
    own = role.rules
    return replace(own, affinities=(*own.affinities, *affinities), spread=Spread.NONE, max_per_zone=None, near=None)


def _full(places: Iterable[str], share: int | None) -> tuple[str, ...]:
    counts = Counter(places)
    return () if share is None else tuple(sorted(place for place, count in counts.items() if count >= share))


def _off(zones: tuple[str, ...], machines: tuple[str, ...]) -> Iterator[Affinity]:
    if zones:
        yield Affinity(Stance.FORBID, Attribute.ZONE, zones, SOURCE)
    if machines:
        yield Affinity(Stance.FORBID, Attribute.MACHINE, machines, SOURCE)


def _beside(environment: Environment, role: RoleRequest, fleet: Fleet) -> Iterator[Affinity]:
    """Where the environment, or the role that this one is near to, stands already."""
    there = tuple(sorted({one.zone for one in environment.nodes if one.zone}))
    if environment.rules.within is Within.ZONE and there:
        yield Affinity(Stance.REQUIRE, Attribute.ZONE, there, SOURCE)
    if environment.rules.within is Within.REGION and there:
        regions = {zone.name: zone.region for zone in fleet.zones}
        inside = tuple(sorted({regions[name] for name in there if name in regions}))
        yield Affinity(Stance.REQUIRE, Attribute.REGION, inside, SOURCE)
    near = role.rules.near and tuple(sorted({one.zone for one in environment.of_role(role.rules.near) if one.zone}))
    if near:
        yield Affinity(Stance.REQUIRE, Attribute.ZONE, near, SOURCE)
