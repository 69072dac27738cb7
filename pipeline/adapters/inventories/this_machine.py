"""The machine that the local driver runs on, whole or posing as several machines in several zones."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pipeline.domain.inventory import Inventory, Machine, Zone

#: Nodes of tests mostly idle, and share one image: many more may be promised than there is.
OVERCOMMIT: Mapping[str, float] = {"vcpu": 64.0, "memory_mib": 4.0, "disk_gib": 16.0}
MIB = 1024 * 1024


def report(state_dir: Path, zones: int, machines_per_zone: int, images: frozenset[str] = frozenset()) -> Inventory:
    """The inventory of this machine; posing splits what it has evenly. `state_dir`: where nodes keep their files."""
    count = zones * machines_per_zone
    share = {name: amount / count for name, amount in _capacity(state_dir).items()}
    racks = [Zone(f"rack-{chr(ord('a') + at)}") for at in range(zones)]
    machines = tuple(
        Machine(f"{rack.name}-{number + 1}", rack.name, share, images=images)
        for rack in racks
        for number in range(machines_per_zone)
    )
    return Inventory(machines, tuple(racks), overcommit=OVERCOMMIT)


def _capacity(state_dir: Path) -> Mapping[str, float]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / MIB
    there = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    files = os.statvfs(there)
    disk = files.f_frsize * files.f_blocks / MIB / 1024
    return {"vcpu": float(os.cpu_count() or 1), "memory_mib": memory, "disk_gib": disk}
