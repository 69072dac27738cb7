"""Checked data to an inventory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.clients.yaml12.loose import texts
from pipeline.domain.durations import parse_duration
from pipeline.domain.inventory import Aggregate, Inventory, LoadLimits, Machine, MachineKind, Zone, names_of_pattern
from pipeline.domain.qos import disk_rate, network_rate
from pipeline.domain.resources import parse_size
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, Stance

Data = Mapping[str, Any]
#: Keys of a machine that hold rates, and the dimensions that they bound; what is more exact goes after.
_DISK_RATES = {"disk_read": "disk_read_bytes", "disk_write": "disk_write_bytes"}
_NETWORK_RATES = {
    "network": ("network_in", "network_out"),
    "network_in": ("network_in",),
    "network_out": ("network_out",),
}


def inventory(data: Data) -> Inventory:
    """The inventory of data without findings."""
    return Inventory(
        machines=tuple(machine for one in data["machines"] for machine in _machines(one)),
        zones=tuple(_zone(one) for one in data["zones"]),
        aggregates=tuple(_aggregate(one) for one in data.get("aggregates", ())),
        overcommit=data.get("overcommit", {}),
        rules=tuple(rule(one, "operator") for one in data.get("rules", ())),
        spare_zones=frozenset(data.get("spare_zones", ())),
        limits=_limits(data["limits"]) if "limits" in data else None,
    )


def _zone(data: Data) -> Zone:
    uplink = float(network_rate(data["uplink"])) if "uplink" in data else None
    return Zone(data["name"], data.get("region", "default"), uplink, uplink)


def _aggregate(data: Data) -> Aggregate:
    return Aggregate(data["name"], data.get("overcommit", {}), _set(data, "features"))


def _set(data: Data, key: str) -> frozenset[str]:
    return frozenset(texts(data.get(key)))


def _machines(data: Data) -> Iterator[Machine]:
    first, *others = names_of_pattern(data["name"])
    machine = Machine(
        first,
        data["zone"],
        _capacity(data),
        texts(data.get("aggregates")),
        MachineKind(data.get("kind", MachineKind.HYPERVISOR)),
        _set(data, "features"),
        _set(data, "images"),
        overcommit=data.get("overcommit", {}),
        max_builds=data.get("max_builds"),
    )
    yield machine
    yield from (replace(machine, name=name) for name in others)


def _capacity(data: Data) -> Mapping[str, float]:
    capacity = {
        "vcpu": float(data["vcpu"]),
        "memory_mib": parse_size(data["memory"]),
        "disk_gib": parse_size(data["disk"]) / 1024,
    }
    capacity |= {name: float(data[name]) for name in ("disk_read_iops", "disk_write_iops") if name in data}
    capacity |= {name: float(disk_rate(data[key])) for key, name in _DISK_RATES.items() if key in data}
    for key, names in _NETWORK_RATES.items():
        if key in data:
            capacity |= dict.fromkeys(names, float(network_rate(data[key])))
    if "hugepages" in data:
        capacity["hugepages_mib"] = parse_size(data["hugepages"])
    return capacity


def rule(data: Data, whose: str) -> OperatorRule:
    """One rule; `whose` it is, a person reads in refusals: `operator`, `project shop`."""
    affinities = tuple(
        Affinity(stance, Attribute(attribute), texts(values), f"{whose} rule {data['name']}")
        for stance in (Stance.REQUIRE, Stance.PREFER, Stance.FORBID)
        for attribute, values in data.get(stance, {}).items()
    )
    match = {key: texts(values) for key, values in data.get("match", {}).items()}
    return OperatorRule(data["name"], match, affinities, texts(data.get("apart_from")), data.get("max_per_zone"))


def _limits(data: Data) -> LoadLimits:
    times = {f"{name}_s": parse_duration(data[name]) for name in ("stale", "ramp") if name in data}
    return LoadLimits(data.get("full", {}), data.get("drain", {}), **times)
