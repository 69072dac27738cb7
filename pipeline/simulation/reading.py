"""Reads scenarios: the shipped ones by name, others by path."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.domain.blueprint import Priority
from pipeline.domain.errors import UserError
from pipeline.domain.inventory import Aggregate, Inventory, LoadLimits, Machine, Zone, checked
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.placement.requests import demand_of
from pipeline.domain.qos import QosClass, QosProfile, network_rate
from pipeline.domain.resources import SIZES
from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Spread, Stance
from pipeline.simulation.fields import Fields, duration, hours, number, weights, whole
from pipeline.simulation.scenario import MachineBad, Metrics, Scenario, Shape, Storm, Stream, ZoneLost

#: The scenarios that come with Greenroom.
SHIPPED = Path(__file__).parent / "scenarios"


def load(name: str) -> Scenario:
    """The shipped scenario of that name, or the one in that file; UserError says what is wrong with it."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    path = SHIPPED / f"{name}.yml" if (SHIPPED / f"{name}.yml").is_file() else Path(name)
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_bytes())
    except OSError as error:
        shipped = ", ".join(sorted(one.stem for one in SHIPPED.glob("*.yml")))
        raise UserError(
            f"scenario {name} cannot be read: {error.strerror}; give a file, or one of {shipped}"
        ) from error
    except YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from error
    return scenario_of(tree, path.stem)


def scenario_of(tree: object, name: str) -> Scenario:
    """The scenario that a tree of YAML says; UserError names the first key that is wrong."""
    with Fields(tree, name) as top:
        projects = top.take("projects", weights)
        shapes = {shape: _shape(shape, fields) for shape, fields in top.named("shapes")}
        with Fields(top.take("inventory", dict), f"{name}.inventory") as fields:
            inventory = checked(_inventory(fields))
        return Scenario(
            name=name,
            seed=top.take("seed", int, 0),
            lasts_s=top.take("lasts", duration),
            inventory=inventory,
            projects=projects,
            shapes=shapes,
            streams=tuple(_stream(one, shapes, projects) for one in top.each("arrivals")),
            events=tuple(_event(one, shapes, projects, inventory) for one in top.each("events")),
            metrics=_metrics(top),
            tick_s=top.take("tick", duration, 1.0),
        )


def _metrics(top: Fields) -> Metrics:
    with Fields(top.take("metrics", dict, {}), f"{top.place}.metrics") as fields:
        return Metrics(fields.take("lag", duration, 20.0), fields.take("every", duration, 60.0))


def _inventory(fields: Fields) -> Inventory:
    zones: list[Zone] = []
    machines: list[Machine] = []
    for rack in fields.each("zones"):
        with rack:
            _racks(rack, zones, machines)
    names = dict.fromkeys(name for machine in machines for name in machine.aggregates)
    return Inventory(
        machines=tuple(machines),
        zones=tuple(zones),
        aggregates=tuple(Aggregate(name) for name in names),
        overcommit=fields.take("overcommit", weights, {}),
        limits=_limits(fields) if fields.has("limits") else None,
    )


def _limits(fields: Fields) -> LoadLimits:
    with Fields(fields.take("limits", dict), f"{fields.place}.limits") as limits:
        full, drain = limits.take("full", number), limits.take("drain", number)
        return LoadLimits({"vcpu": full}, {"vcpu": drain}, limits.take("stale", duration, 180.0))


def _racks(rack: Fields, zones: list[Zone], machines: list[Machine]) -> None:
    """Add `count` zones of one kind, each with the same machines; `{n}` in the name is the number of the zone."""
    name, region = rack.take("name", str), rack.take("region", str, "default")
    kinds = [_kind(one) for one in rack.each("machines")]
    for n in range(1, rack.take("count", whole, 1) + 1):
        zone = Zone(name.replace("{n}", str(n)), region)
        zones.append(zone)
        for aggregate, count, capacity in kinds:
            machines += [
                Machine(f"{zone.name}-{aggregate}-{m}", zone.name, capacity, (aggregate,)) for m in range(1, count + 1)
            ]


def _kind(fields: Fields) -> tuple[str, int, Mapping[str, float]]:
    with fields:
        return fields.take("aggregate", str), fields.take("count", whole), fields.take("capacity", _capacity)


def _capacity(value: Mapping[str, Any]) -> Mapping[str, float]:
    return {
        name: float(network_rate(amount)) if isinstance(amount, str) else float(amount)
        for name, amount in dict(value).items()
    }


def _shape(name: str, fields: Fields) -> Shape:
    with fields:
        lasts_s = fields.take("lasts", duration)
        return Shape(
            name=name,
            roles=tuple(_role(role, one) for role, one in fields.named("roles")),
            builds_s=fields.take("builds", duration, 20.0),
            lasts_s=lasts_s,
            most_s=fields.take("most", duration, 8 * lasts_s),
            busy=fields.take("busy", number, 0.5),
        )


def _role(name: str, fields: Fields) -> RoleRequest:
    with fields:
        size = fields.take("size", str, "small")
        if size not in SIZES:
            raise UserError(f"{fields.place}.size: there is no {size}; known are {', '.join(SIZES)}")
        qos = QosProfile(
            qos_class=fields.take("qos", QosClass, QosClass.BURSTABLE),
            network_in=fields.take("network_in", network_rate, 0) or None,
            network_out=fields.take("network_out", network_rate, 0) or None,
        )
        rules = PlacementRules(
            affinities=_affinities(fields),
            spread=fields.take("spread", Spread, Spread.NONE),
            max_per_zone=fields.take("max_per_zone", whole, 0) or None,
        )
        count = fields.take("count", whole, 1)
        return RoleRequest(name, count, demand_of(SIZES[size], qos), qos_class=qos.qos_class, rules=rules)


def _affinities(fields: Fields) -> tuple[Affinity, ...]:
    wanted = fields.take("aggregate", str, "")
    return (Affinity(Stance.REQUIRE, Attribute.AGGREGATE, (wanted,), "scenario"),) if wanted else ()


def _stream(fields: Fields, shapes: Mapping[str, Shape], projects: Mapping[str, float]) -> Stream:
    with fields:
        return _mixed(fields, shapes, projects, fields.take("per_hour", hours))


def _mixed(
    fields: Fields, shapes: Mapping[str, Shape], projects: Mapping[str, float], per_hour: tuple[float, ...]
) -> Stream:
    stream = Stream(
        priority=fields.take("priority", Priority),
        per_hour=per_hour,
        shapes=fields.take("shapes", weights),
        projects=fields.take("projects", weights, dict(projects)),
    )
    for what, named, known in (("shape", stream.shapes, shapes), ("project", stream.projects, projects)):
        for name in named:
            if name not in known:
                raise UserError(f"{fields.place}: there is no {what} {name}; known are {', '.join(known)}")
    return stream


def _event(
    fields: Fields, shapes: Mapping[str, Shape], projects: Mapping[str, float], inventory: Inventory
) -> Storm | ZoneLost | MachineBad:
    with fields:
        what, at = fields.take("what", str), fields.take("at", duration)
        if what == "storm":
            runs, over_s = fields.take("runs", whole), fields.take("over", duration)
            return Storm(at, runs, over_s, _mixed(fields, shapes, projects, ()))
        if what == "zone-lost":
            known = [zone.name for zone in inventory.zones]
            return ZoneLost(at, _known(fields, "zone", known), fields.take("back_after", duration))
        if what == "machine-bad":
            known = [machine.name for machine in inventory.machines]
            return MachineBad(at, _known(fields, "machine", known), fields.take("back_after", duration))
        raise UserError(f"{fields.place}.what: expected storm, zone-lost or machine-bad, got {what!r}")


def _known(fields: Fields, what: str, names: list[str]) -> str:
    name = fields.take(what, str)
    if name not in names:
        raise UserError(f"{fields.place}: there is no {what} {name} in the inventory, such as {names[0]}")
    return name
