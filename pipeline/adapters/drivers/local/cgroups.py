"""Control groups of nodes, version 1, 2 or both (hybrid): each hierarchy has the same directory for a node."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from pipeline.adapters.drivers.local.image import SHIFT
from pipeline.adapters.drivers.local.process import kill_all

#: Files of a group that say what it weighs against its neighbours, and what a node weighs while it boots: half of the
#: least that a node of one core has, and the least that disks know. A kernel has those of its version and scheduler.
BOOT_WEIGHTS = {
    "cpu.shares": "32",
    "cpu.weight": "2",
    "blkio.weight": "10",
    "blkio.bfq.weight": "10",
    "io.weight": "default 10",
    "io.bfq.weight": "default 10",
}
THROTTLES = ("read_iops", "write_iops", "read_bps", "write_bps")
#: What of memory.stat is no cache, in version 1 (with the groups below) and version 2.
MEMORY_1, MEMORY_2 = ("total_rss", "total_shmem"), ("anon", "shmem")
DELEGATED = ("cgroup.procs", "tasks", "cgroup.threads", "cgroup.subtree_control")


@cache
def hierarchies() -> tuple[Path, ...]:
    """Where the machine's control groups are mounted."""
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return tuple(Path(fields[1]) for fields in lines if fields[2] in ("cgroup", "cgroup2"))


def parent(deployment: str) -> str:
    return f"greenroom-{deployment}"


def group(deployment: str, environment_id: str, node: str) -> str:
    return f"{parent(deployment)}/{environment_id}.{node}"


def places(name: str) -> list[Path]:
    """Directories of a group that exist."""
    return [place for root in hierarchies() if (place := root / name).is_dir()]


def members(deployment: str) -> set[tuple[str, str]]:
    """Environment and node of every group of a deployment, whether anybody knows of it or not."""
    names = {entry.name for place in places(parent(deployment)) for entry in os.scandir(place) if entry.is_dir()}
    return {(environment, node) for environment, _, node in (name.partition(".") for name in names)}


def pids(name: str) -> set[int]:
    """Processes in a group and below it."""
    found: set[int] = set()
    for place in places(name):
        for directory in _tree(place):
            with contextlib.suppress(OSError):  # removed meanwhile
                found.update(int(pid) for pid in (directory / "cgroup.procs").read_text().split())
    return found


def cpu_s(name: str) -> float:
    """CPU seconds that the processes of a group used; 0 when it is not there, or nobody counts."""
    for place in places(name):
        with contextlib.suppress(OSError):  # another hierarchy counts them, or it was removed meanwhile
            return int((place / "cpuacct.usage").read_text()) / 1e9
        with contextlib.suppress(OSError, KeyError):  # version 1 has a file of that name that does not count them
            return _stat(place / "cpu.stat")["usage_usec"] / 1e6
    return 0.0


def memory_bytes(name: str) -> int:
    """Memory that only the end of a group's processes would free: caches do not count. 0 when nobody counts."""
    for place in places(name):
        with contextlib.suppress(OSError):  # another hierarchy counts it, or it was removed meanwhile
            stat = _stat(place / "memory.stat")
            return sum(stat.get(key, 0) for key in (MEMORY_1 if "total_rss" in stat else MEMORY_2))
    return 0


def _stat(file: Path) -> dict[str, int]:
    return {key: int(value) for key, value in (line.split() for line in file.read_text().splitlines())}


def kill(name: str, deadline: float) -> None:
    """Kill all processes of a group until none is left or the time (monotonic) is over."""
    while (left := pids(name)) and time.monotonic() < deadline:
        kill_all(left - {0})
        time.sleep(0.002)


def remove(name: str, deadline: float) -> None:
    """Remove the empty directories of a group; the kernel may need a moment after the last process."""
    for place in places(name):
        for directory in reversed(list(_tree(place))):
            _remove_one(directory, deadline)


def _remove_one(directory: Path, deadline: float) -> None:
    while True:
        try:
            directory.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return  # the caller verifies, and says what is left
            time.sleep(0.002)
        else:
            return


def remove_parent(deployment: str) -> None:
    """Remove the group that held the nodes' groups, when it is empty."""
    for place in places(parent(deployment)):
        with contextlib.suppress(OSError):
            place.rmdir()


def delegate(name: str) -> None:
    """Give a node's systemd its own group: the directory in the hierarchy that systemd uses, not the limits."""
    for place in places(name):
        if _is_systemds(place):
            for path in (place, *(place / file for file in DELEGATED)):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(path, SHIFT, SHIFT)


def _is_systemds(place: Path) -> bool:
    """Version 2, or the version 1 hierarchy without a controller, named systemd."""
    return (place / "cgroup.controllers").exists() or place.parents[1].name == "systemd"


@contextlib.contextmanager
def held_down(name: str) -> Iterator[None]:
    """Let a group weigh little for a while, so that its neighbours keep what they were promised."""
    usual = {
        file: file.read_text() for place in places(name) for weight in BOOT_WEIGHTS if (file := place / weight).exists()
    }
    for file in usual:
        file.write_text(BOOT_WEIGHTS[file.name])
    try:
        yield
    finally:
        for file, weight in usual.items():
            with contextlib.suppress(FileNotFoundError):  # the node was taken away meanwhile
                file.write_text(weight.strip())


def lift_throttles(name: str, device: str) -> None:
    """Let the disk run free: removing an overlay writes back what the node left dirty."""
    for place in places(name):
        for throttle in THROTTLES:
            file = place / f"blkio.throttle.{throttle}_device"
            if file.exists():
                file.write_text(f"{device} 0")
        if (place / "io.max").exists():
            (place / "io.max").write_text(f"{device} rbps=max wbps=max riops=max wiops=max")


def _tree(place: Path) -> Iterator[Path]:
    """A directory and those below it, parents first."""
    for directory, _, _ in os.walk(place):
        yield Path(directory)


def device_of(path: Path) -> str | None:
    """The whole disk (`254:0`) under a directory, as throttles want it; None when no disk can be told."""
    number = path.stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not place.exists():
        return None
    real = place.resolve()
    whole = real.parent if (real / "partition").exists() else real
    return (whole / "dev").read_text().strip()


@cache
def limits_swap() -> bool:
    """Whether this kernel counts swap to a group."""
    version_1 = any((root / "memory.memsw.limit_in_bytes").exists() for root in hierarchies())
    return version_1 or any((root / "cgroup.controllers").exists() and root.name != "unified" for root in hierarchies())
