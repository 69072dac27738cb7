"""From environments to requests: what each node takes, and which rules hold for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.domain.environments import BUILD_STATES, Environment, Node
from pipeline.domain.placement.model import Placed, Request, RoleRequest, Standing
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources, Vector
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, PlacementRules, Stance


def demand_of(resources: Resources, qos: QosProfile) -> Vector:
    """What a node takes of its machine; best-effort nodes are promised no rates, so they reserve none."""
    rates = (
        qos.disk_read_iops,
        qos.disk_write_iops,
        qos.disk_read_bytes,
        qos.disk_write_bytes,
        qos.network_in,
        qos.network_out,
    )
    kept = (0.0,) * len(rates) if qos.qos_class is QosClass.BEST_EFFORT else tuple(float(rate or 0) for rate in rates)
    hugepages = float(resources.hugepages_mib)
    return (float(resources.vcpu), float(resources.memory_mib), float(resources.disk_gib), *kept, hugepages)


def request_of(environment: Environment, rules: Iterable[OperatorRule] = ()) -> Request:
    """The request of an environment, with the rules of its project and of the operator laid on its roles."""
    laid = tuple(rules)
    roles = dict.fromkeys(node.role for node in environment.nodes)
    request = Request(
        environment=environment.id,
        project=environment.project,
        service=environment.service,
        roles=tuple(_role(environment, name, laid) for name in roles),
        within=environment.rules.within,
        strategy=environment.rules.strategy,
    )
    return away_from(request, environment.avoid)


def away_from(request: Request, machines: tuple[str, ...]) -> Request:
    """The request, kept off the machines on which nodes of it failed already."""
    if not machines:
        return request
    away = Affinity(Stance.FORBID, Attribute.MACHINE, machines, "it failed there")
    rule = OperatorRule("failed-there", affinities=(away,))
    return replace(request, roles=tuple(replace(one, rules=_laid_on(one.rules, rule)) for one in request.roles))


def _role(environment: Environment, name: str, laid: tuple[OperatorRule, ...]) -> RoleRequest:
    nodes = environment.of_role(name)
    first = nodes[0]
    own = environment.rules.roles.get(name, PlacementRules())
    rules = own
    for rule in laid:
        if _matches(rule, environment, first, own):
            rules = _laid_on(rules, rule)
    return RoleRequest(name, len(nodes), demand_of(first.resources, first.qos), first.image, first.qos.qos_class, rules)


def _matches(rule: OperatorRule, environment: Environment, node: Node, own: PlacementRules) -> bool:
    subject = {
        "project": environment.project,
        "service": environment.service,
        "role": node.role,
        "workload": own.workload or "",
        "qos_class": node.qos.qos_class.value,
    }
    return all(subject[key] in values for key, values in rule.match.items())


def _laid_on(rules: PlacementRules, rule: OperatorRule) -> PlacementRules:
    bounds = [bound for bound in (rules.max_per_zone, rule.max_per_zone) if bound is not None]
    tighter = rule.max_per_zone is not None and rule.max_per_zone == min(bounds) != rules.max_per_zone
    return replace(
        rules,
        affinities=(*rules.affinities, *rule.affinities),
        apart_from=tuple(dict.fromkeys((*rules.apart_from, *rule.apart_from))),
        max_per_zone=min(bounds, default=None),
        bound_by=f"operator rule {rule.name}" if tighter else rules.bound_by,
    )


def standing_of(environment: Environment) -> list[Standing]:
    """The nodes of an environment that count on machines."""
    coming = environment.scaling.coming if environment.scaling is not None else ()
    all_ = environment.state in BUILD_STATES
    return [
        Standing(
            environment=environment.id,
            service=environment.service,
            role=node.role,
            machine=node.machine,
            demand=demand_of(node.resources, node.qos),
            qos_class=node.qos.qos_class,
            since=environment.placed_at,
            building=all_ or node.name in coming,
            built_at=build_ended_at(environment),
            apart_from=node.apart_from or environment.rules.roles.get(node.role, PlacementRules()).apart_from,
            project=environment.project,
        )
        for node in environment.nodes
        if node.machine
    ]


def build_ended_at(environment: Environment) -> float:
    """When an environment's builds were over, well or badly, at the latest."""
    return environment.built_at or environment.state_since


#: Before the id of a request, under which its nominated places stand in a fleet.
NOMINATED = "nominated:"
#: No measurement shows what is not there yet.
NEVER = float("inf")


def nominated_of(environment: Environment) -> list[Standing]:
    """The places that a request will have once its victims are gone; they stand there already for everybody else."""
    nomination = environment.nomination
    if nomination is None:
        return []
    placed = [replace(node, machine=nomination.machines.get(node.name, "")) for node in environment.nodes]
    nodes = standing_of(environment.with_nodes(placed))
    name, since = NOMINATED + environment.id, environment.told_at
    return [node._replace(environment=name, since=since, building=False, built_at=NEVER) for node in nodes]


def with_placement(
    environment: Environment, placed: Placed, zones: Mapping[str, str], now: float, inventory: int = 0
) -> Environment:
    """The environment with a machine for each node; `zones` maps machines to their zone.

    `inventory`: the version of the inventory that it was placed under; what was placed under 0 is looked at again.
    """
    left = {role: iter(machines) for role, machines in placed.machines.items()}
    nodes = []
    for node in environment.nodes:
        machine = next(left[node.role])
        apart = placed.apart_from.get(node.role, ())
        nodes.append(replace(node, machine=machine, zone=zones[machine], apart_from=apart))
    return replace(environment.with_nodes(nodes), placed_at=now, placed_under=inventory, notes=placed.notes)
