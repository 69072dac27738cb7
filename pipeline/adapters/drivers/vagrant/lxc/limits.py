"""A node's limits, as LXC's configuration states them for the control groups of this machine."""

from __future__ import annotations

from pathlib import Path

from pipeline.domain.resources import Resources

PERIOD_US = 100_000


def unified() -> bool:
    """Whether this machine's control groups are of version 2."""
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def limits(resources: Resources, *, version_2: bool | None = None) -> list[tuple[str, str]]:
    """Keys and values of one node."""
    memory = resources.memory_mib << 20
    quota = max(1000, round(resources.vcpu * PERIOD_US))
    pids = max(512, resources.memory_mib)
    if unified() if version_2 is None else version_2:
        said = {"cgroup2.memory.max": str(memory), "cgroup2.cpu.max": f"{quota} {PERIOD_US}"}
        return [*said.items(), ("cgroup2.pids.max", str(pids))]
    said = {"cgroup.memory.limit_in_bytes": str(memory), "cgroup.cpu.cfs_quota_us": str(quota)}
    return [*said.items(), ("cgroup.pids.max", str(pids))]
