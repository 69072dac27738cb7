"""What of a deployment can be seen on this machine, by an ordinary user too: to show that nothing is left."""

from __future__ import annotations

import contextlib
import ipaddress
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.adapters.drivers.local import cgroups
from pipeline.adapters.drivers.local.helper import DEFAULT_SUBNET
from pipeline.adapters.drivers.local.network import Network
from pipeline.adapters.drivers.local.process import Commands
from pipeline.adapters.drivers.local.records import RUN

LINKS = Path("/sys/class/net")


def traces(deployment: str, home: str) -> dict[str, list[str]]:
    """Everything that bears the deployment's mark or works for its home, by kind; the caller's process excepted."""
    network = Network(Commands(deployment), deployment, ipaddress.IPv4Network(DEFAULT_SUBNET))
    return {
        "processes": sorted(_processes((deployment.encode(), home.encode()))),
        "network namespaces": sorted(network.namespaces()),
        "links": sorted(link.name for link in LINKS.iterdir() if link.name.startswith(network.prefix)),
        "mounts": sorted(_mounts(deployment)),
        "cgroups": sorted(str(place) for place in _cgroups(deployment)),
        "records": sorted(_records(deployment)),
    }


def _processes(marks: Sequence[bytes]) -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        command = _read(entry / "cmdline")
        known = (command, _read(entry / "environ"), _read(entry / "cgroup"))
        # Without a command line it has ended and waits for its parent.
        if command and any(mark in text for mark in marks for text in known):
            yield f"{entry.name} {command.replace(bytes(1), b' ').decode(errors='replace').strip()[:80]}"


def _read(path: Path) -> bytes:
    """The content, or nothing where the process went away or is another user's."""
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _mounts(deployment: str) -> Iterator[str]:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if deployment in line:
            yield line.split()[1]


def _cgroups(deployment: str) -> Iterator[Path]:
    for place in cgroups.places(cgroups.parent(deployment)):
        yield place
        yield from (child for child in place.iterdir() if child.is_dir())


def _records(deployment: str) -> Iterator[str]:
    if (RUN / deployment).exists():
        yield str(RUN / deployment)
    with contextlib.suppress(FileNotFoundError):
        for claim in (RUN / "subnets").iterdir():
            if str(claim.readlink()).startswith(f"{deployment}/"):
                yield str(claim)
