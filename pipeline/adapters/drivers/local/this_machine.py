"""The machine that the local driver runs on, whole or posing as several machines in several zones."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.adapters.drivers.local.protocol import Usage
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone

#: Nodes of tests mostly idle, and share one image: many more may be promised than there is.
OVERCOMMIT: Mapping[str, float] = {"vcpu": 64.0, "memory_mib": 4.0, "disk_gib": 16.0}
MIB = 1024 * 1024


@dataclass(frozen=True)
class Pose:
    """As what this machine shows itself. `state_dir`: where nodes keep their files. `full` and `drain`: `LoadLimits`;
    without either of them nothing is measured.
    """

    state_dir: Path = Path("/")
    zones: int = 1
    machines_per_zone: int = 1
    full: Mapping[str, float] = field(default_factory=dict)
    drain: Mapping[str, float] = field(default_factory=dict)


def report(pose: Pose, images: frozenset[str] = frozenset()) -> Inventory:
    """The inventory of this machine; posing splits what it has evenly, and every part holds its images."""
    count = pose.zones * pose.machines_per_zone
    share = {name: amount / count for name, amount in _capacity(pose.state_dir).items()}
    racks = [Zone(f"rack-{chr(ord('a') + at)}") for at in range(pose.zones)]
    machines = tuple(
        Machine(f"{rack.name}-{number + 1}", rack.name, share, images=images)
        for rack in racks
        for number in range(pose.machines_per_zone)
    )
    limits = LoadLimits(pose.full, pose.drain) if pose.full or pose.drain else None
    return Inventory(machines, tuple(racks), overcommit=OVERCOMMIT, limits=limits)


def _capacity(state_dir: Path) -> Mapping[str, float]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    there = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    files = os.statvfs(there)
    disk = files.f_frsize * files.f_blocks / MIB / 1024
    return {"vcpu": float(os.cpu_count() or 1), "memory_mib": memory, "disk_gib": disk}


def apportioned(usage: Usage, machines: Sequence[Machine]) -> dict[str, Load]:
    """What each posed machine bears: the use of its own nodes, and its part by size of all else that goes on.

    Together they bear exactly what the real machine does.
    """
    used: dict[str, dict[str, float]] = {machine.name: {} for machine in machines}
    for dimension, whole in usage.whole.items():
        sizes = {machine.name: machine.capacity.get(dimension, 0.0) for machine in machines}
        own = {name: usage.by_machine.get(name, {}).get(dimension, 0.0) for name in sizes}
        rest = max(0.0, whole - sum(own.values()))
        for name, size in sizes.items():
            if size > 0:
                used[name][dimension] = own[name] / size + rest / sum(sizes.values())
    return {name: Load(usage.since, shares) for name, shares in used.items()}
