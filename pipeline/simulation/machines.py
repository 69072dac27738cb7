"""Reads the inventory of a scenario: the words of `inventory.yml`, with machines below their zones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from pipeline.domain.inventory import (
    Aggregate,
    Inventory,
    LoadLimits,
    Machine,
    MachineKind,
    Zone,
    checked,
    names_of_pattern,
)
from pipeline.domain.qos import QosClass, disk_rate, network_rate
from pipeline.domain.resources import parse_size
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, Stance
from pipeline.simulation.fields import NONE, Fields, duration, names, number, one_of, text, weights, whole

#: What is measured in a simulation.
MEASURED = "vcpu"
#: What an operator's rule may match.
_SUBJECTS = ("project", "service", "role", "workload", "qos_class")


def inventory_of(fields: Fields) -> Inventory:
    """The inventory that a scenario declares; aggregates that are only named have nothing in common."""
    with fields:
        zones: list[Zone] = []
        machines: list[Machine] = []
        for one in fields.each("zones"):
            _zones(one, zones, machines)
        if not machines:
            raise fields.wrong("zones", "expected at least one machine in one zone")
        return checked(
            Inventory(
                machines=tuple(machines),
                zones=tuple(zones),
                aggregates=_aggregates(fields, machines),
                overcommit=fields.take("overcommit", weights, {}),
                rules=tuple(_rule(one) for one in fields.each("rules")),
                spare_zones=frozenset(map(QosClass, fields.take("spare_zones", _classes, NONE))),
                limits=_limits(fields.inner("limits")) if fields.has("limits") else None,
            )
        )


def _classes(value: object) -> tuple[str, ...]:
    return tuple(one_of(QosClass)(name).value for name in names(value))


def _aggregates(fields: Fields, machines: Iterable[Machine]) -> tuple[Aggregate, ...]:
    found = dict.fromkeys(name for machine in machines for name in machine.aggregates)
    declared = {one.name: one for one in map(_aggregate, fields.each("aggregates"))}
    return (*declared.values(), *(Aggregate(name) for name in found if name not in declared))


def _aggregate(fields: Fields) -> Aggregate:
    with fields:
        return Aggregate(
            fields.take("name", text),
            fields.take("overcommit", weights, {}),
            frozenset(fields.take("features", names, NONE)),
        )


def _limits(fields: Fields) -> LoadLimits:
    with fields:
        drain = fields.take("drain", _measured) if fields.has("drain") else {}
        return LoadLimits(
            fields.take("full", _measured),
            drain,
            stale_s=fields.take("stale", duration, 180.0),
            ramp_s=fields.take("ramp", duration, 5.0),
        )


def _measured(value: object) -> dict[str, float]:
    ratios = weights(value)
    if list(ratios) != [MEASURED]:
        raise ValueError(f"expected a share of {MEASURED}, which is all that a simulation measures")
    return ratios


def _zones(fields: Fields, zones: list[Zone], machines: list[Machine]) -> None:
    """Add the zones that one entry stands for, each with the same machines, named after their zone."""
    with fields:
        spelled, region = fields.take("name", _spelled), fields.take("region", text, "default")
        uplink = fields.take("uplink", _network, 0.0) or None
        kinds = [machine for one in fields.each("machines") for machine in _machines(one)]
        for name in spelled:
            zones.append(Zone(name, region, uplink, uplink))
            machines += [replace(kind, name=f"{name}-{kind.name}", zone=name) for kind in kinds]


def _machines(fields: Fields) -> Iterator[Machine]:
    """The machines of one entry, as they stand in any zone."""
    with fields:
        spelled = fields.take("name", _spelled)
        kind = Machine(
            spelled[0],
            "",
            dict(_capacity(fields)),
            fields.take("aggregates", names, NONE),
            fields.take("kind", one_of(MachineKind), MachineKind.HYPERVISOR),
            frozenset(fields.take("features", names, NONE)),
            frozenset(fields.take("images", names, NONE)),
            overcommit=fields.take("overcommit", weights, {}),
            max_builds=fields.take("max_builds", whole, 0) or None,
        )
    for name in spelled:
        yield replace(kind, name=name)


def _spelled(value: object) -> list[str]:
    return list(names_of_pattern(text(value)))


def _capacity(fields: Fields) -> Iterator[tuple[str, float]]:
    yield "vcpu", fields.take("vcpu", number)
    yield "memory_mib", fields.take("memory", _mib)
    yield "disk_gib", fields.take("disk", _mib) / 1024
    for key, name, read in (
        ("disk_read_iops", "disk_read_iops", number),
        ("disk_write_iops", "disk_write_iops", number),
        ("disk_read", "disk_read_bytes", _disk),
        ("disk_write", "disk_write_bytes", _disk),
    ):
        if fields.has(key):
            yield name, fields.take(key, read)
    if fields.has("network"):
        network = fields.take("network", _network)
        yield "network_in", network
        yield "network_out", network


def _mib(value: object) -> float:
    return parse_size(str(value))


def _network(value: object) -> float:
    return float(network_rate(str(value)))


def _disk(value: object) -> float:
    return float(disk_rate(str(value)))


def _rule(fields: Fields) -> OperatorRule:
    with fields:
        name = fields.take("name", text)
        with fields.inner("match") as match:
            matched = {subject: match.take(subject, names) for subject in _SUBJECTS if match.has(subject)}
        return OperatorRule(
            name,
            matched,
            affinities(fields, f"operator rule {name}"),
            fields.take("apart_from", names, NONE),
            fields.take("max_per_zone", whole, 0) or None,
        )


def affinities(fields: Fields, source: str) -> tuple[Affinity, ...]:
    """What `require`, `prefer` and `forbid` say of machines."""
    found: list[Affinity] = []
    for stance in Stance:
        with fields.inner(stance.value) as where:
            found += [
                Affinity(stance, attribute, where.take(attribute.value, names), source)
                for attribute in Attribute
                if where.has(attribute.value)
            ]
    return tuple(found)
