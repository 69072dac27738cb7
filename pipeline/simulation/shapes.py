"""Reads the kinds of environment of a scenario: the words of `greenroom.yml`, and how long each lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.inventory import Inventory, names_of
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.requests import request_of
from pipeline.domain.qos import PROFILES, QosClass, QosProfile, disk_rate, network_rate
from pipeline.domain.resources import SIZES
from pipeline.domain.rules import HIGH_IO, BareMetal, PlacementRules, Spread, Strategy, Within
from pipeline.simulation.fields import NONE, Fields, duration, names, nearest, number, one_of, some_time, text, whole
from pipeline.simulation.machines import affinities
from pipeline.simulation.scenario import Shape

#: What a node of an environment whose scenario names no image is made of.
IMAGE = "any"


def shapes_of(top: Fields, inventory: Inventory, projects: Mapping[str, float]) -> dict[str, Mapping[str, Shape]]:
    """Every shape by its name, then by project: an operator's rules may make it another for each."""
    return {name: _by_project(name, fields, inventory, projects) for name, fields in top.named("shapes")}


def _by_project(name: str, fields: Fields, inventory: Inventory, projects: Mapping[str, float]) -> Mapping[str, Shape]:
    with fields:
        service, spec = fields.take("service", text, name), _environment(fields, inventory)
        lasts_s = fields.take("lasts", some_time)
        builds_s, most_s = fields.take("builds", duration, 20.0), fields.take("most", some_time, 8 * lasts_s)
        busy = fields.take("busy", number, 0.5)
    made: dict[tuple[RoleRequest, ...], Shape] = {}
    for project in projects:
        request = _request(spec, service, project, inventory)
        made.setdefault(request.roles, Shape(name, request, builds_s, lasts_s, most_s, busy))
    return {project: made[_request(spec, service, project, inventory).roles] for project in projects}


def _request(spec: EnvironmentSpec, service: str, project: str, inventory: Inventory) -> Request:
    """What production asks of placement for such an environment."""
    nodes, requested = planned_nodes(spec), EnvironmentState.REQUESTED
    environment = Environment("", project, service, "", "", requested, nodes, Priority.PUSH, 0, 0, 0, rules=spec.rules)
    return request_of(environment, inventory.rules)


def _environment(fields: Fields, inventory: Inventory) -> EnvironmentSpec:
    roles = tuple(_role(name, one, inventory) for name, one in fields.named("roles"))
    known = [role.name for role in roles]
    for role in roles:
        if role.rules.near is not None and role.rules.near not in known:
            raise fields.wrong("roles", f"{role.name}.near: no role {role.rules.near}{nearest(role.rules.near, known)}")
    return EnvironmentSpec(
        fields.take("image", text, IMAGE),
        roles,
        within=fields.take("within", one_of(Within), Within.ANYWHERE),
        strategy=fields.take("strategy", one_of(Strategy), Strategy.PACK),
    )


def _role(name: str, fields: Fields, inventory: Inventory) -> RoleSpec:
    with fields:
        return RoleSpec(
            name,
            fields.take("count", whole, 1),
            fields.take("size", _size, "small"),
            fields.take("image", text, "") or None,
            qos=_qos(fields),
            rules=_rules(fields, inventory),
        )


def _size(value: object) -> str:
    if value not in SIZES:
        raise ValueError(f"no size {value}{nearest(str(value), SIZES)}")
    return str(value)


def _rules(fields: Fields, inventory: Inventory) -> PlacementRules:
    workload = fields.take("workload", text, "") or None
    bare_metal = fields.take("bare_metal", one_of(BareMetal)) if fields.has("bare_metal") else None
    found, known = affinities(fields, "scenario"), names_of(inventory)
    for rule in found:
        for value in rule.values:
            if value not in known[rule.attribute]:
                close = nearest(value, known[rule.attribute])
                raise fields.wrong(rule.stance.value, f"no {rule.attribute} {value} in the inventory{close}")
    return PlacementRules(
        affinities=found,
        spread=fields.take("spread", one_of(Spread), Spread.NONE),
        max_per_zone=fields.take("max_per_zone", whole, 0) or None,
        apart_from=fields.take("apart_from", names, NONE),
        near=fields.take("near", text, "") or None,
        bare_metal=bare_metal or (BareMetal.WANTED if workload == HIGH_IO else None),
        workload=workload,
    )


def _qos(fields: Fields) -> QosProfile:
    """The name of a profile, or a mapping of what a node is promised."""
    if fields.has("qos") and not isinstance(fields.peek("qos"), str):
        return _promise(fields.inner("qos"))
    return PROFILES[fields.take("qos", _profile)] if fields.has("qos") else QosProfile()


def _promise(fields: Fields) -> QosProfile:
    with fields:
        base = PROFILES[fields.take("profile", _profile)] if fields.has("profile") else QosProfile()
        told = {key: fields.take(key, read) for key, read in _PROMISES.items() if fields.has(key)}
        return replace(base, qos_class=fields.take("class", one_of(QosClass), base.qos_class), **told)


def _profile(value: object) -> str:
    if value not in PROFILES:
        raise ValueError(f"no QoS profile {value}{nearest(str(value), PROFILES)}")
    return str(value)


def _disk(value: object) -> int:
    return disk_rate(str(value))


def _network(value: object) -> int:
    return network_rate(str(value))


_PROMISES: Mapping[str, Callable[[Any], int]] = {
    "cpu_shares": whole,
    "disk_read_iops": whole,
    "disk_write_iops": whole,
    "disk_read_bytes": _disk,
    "disk_write_bytes": _disk,
    "network_in": _network,
    "network_out": _network,
}
