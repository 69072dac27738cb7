"""What this machine and the nodes on it use, as the kernel counts it."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.drivers.local import cgroups
from pipeline.adapters.drivers.local.protocol import Usage
from pipeline.adapters.drivers.local.records import Records

MIB = 1024 * 1024
#: A mean over less than this says little; who asks sooner is told the last one once more.
WINDOW_S = 1.0
#: Where idle and iowait stand among the times of /proc/stat, and how many times there are that do not overlap.
IDLE, TIMES = (3, 4), 8


@dataclass(frozen=True)
class Reading:
    """CPU seconds since the start: of the machine, and by control group of each node."""

    at: float
    busy_s: float
    nodes_s: Mapping[str, float]


class Meter:
    """Measures from one question to the next; any number of threads may ask."""

    def __init__(self, records: Records, clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._clock = clock
        self._lock = threading.Lock()
        self._last: Usage | None = None
        self._reading = self._read({})

    def usage(self) -> Usage | None:
        """The mean use since the last question; None in the first second."""
        with self._lock:
            if self._clock() - self._reading.at >= WINDOW_S:
                self._last = self._measure()
            return self._last

    def _measure(self) -> Usage:
        machines = {self._group(node.environment_id, node.name): node.machine for node in self._records.nodes()}
        before, self._reading = self._reading, self._read(machines)
        now = self._reading
        lasted = now.at - before.at
        by_machine: dict[str, dict[str, float]] = defaultdict(lambda: {"vcpu": 0.0, "memory_mib": 0.0})
        for group, machine in machines.items():
            by_machine[machine]["vcpu"] += grown(before.nodes_s.get(group, 0.0), now.nodes_s[group]) / lasted
            by_machine[machine]["memory_mib"] += cgroups.memory_bytes(group) / MIB
        whole = {
            "vcpu": grown(before.busy_s, now.busy_s) / lasted,
            "memory_mib": memory_used_mib(Path("/proc/meminfo").read_text()),
            "disk_gib": disk_used_gib(self._records.state),
        }
        return Usage(before.at, whole, dict(by_machine))

    def _group(self, environment_id: str, node: str) -> str:
        return cgroups.group(self._records.deployment, environment_id, node)

    def _read(self, groups: Mapping[str, str]) -> Reading:
        nodes = {group: cgroups.cpu_s(group) for group in groups}
        return Reading(self._clock(), busy_s(Path("/proc/stat").read_text()), nodes)


def grown(before: float, now: float) -> float:
    """How far a counter went; one that stands lower than before was begun anew."""
    return now - before if now >= before else now


def busy_s(stat: str) -> float:
    """CPU seconds of all processors, from the text of /proc/stat, but for those in which nobody wanted one."""
    times = [int(field) for field in stat.split("\n", 1)[0].split()[1 : TIMES + 1]]
    return (sum(times) - sum(times[at] for at in IDLE)) / os.sysconf("SC_CLK_TCK")


def memory_used_mib(meminfo: str) -> float:
    """What could not be had without swapping, from the text of /proc/meminfo: caches do not count."""
    said = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    total, available = (int(said[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return (total - available) / 1024


def disk_used_gib(place: Path) -> float:
    """Of the file system of a directory, with what it keeps for root."""
    files = os.statvfs(place)
    return files.f_frsize * (files.f_blocks - files.f_bavail) / MIB / 1024
