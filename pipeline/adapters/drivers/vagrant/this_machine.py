"""What providers whose nodes stand on this machine ask of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from pipeline.domain.errors import CapacityError, PermanentError
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

#: Each provider that Debian packs stands here.
PLUGINS = Path("/usr/share/vagrant-plugins/plugins.d")
AS_ROOT = "run Greenroom as root"


class OnThisMachine:
    """What a `Provider` need not do whose machines get all that they need before Vagrant makes them."""

    def mistakes(self) -> Sequence[str]:
        return ()

    def turns(self, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
        return [nodes]

    def settle(self, request: EnvironmentRequest) -> None:
        """Nothing is left to be given."""


def lacking(programs: Mapping[str, str], provider: str, package: str) -> list[str]:
    """What is to be installed, one sentence each, of programs with their packages in Debian and Vagrant's provider."""
    found = [
        f"{program} is not there: apt-get install {package}"
        for program, package in programs.items()
        if which(program) is None
    ]
    if which("vagrant") is not None and not plugin(provider).exists():
        found.append(f"vagrant has no provider {provider}: apt-get install {package}")
    return found


def plugin(provider: str) -> Path:
    """Stands where Vagrant has the provider."""
    return PLUGINS / f"vagrant-{provider}.json"


def admit(nodes: Sequence[NodeRequest], images: Collection[str]) -> None:
    """PermanentError for an image that is not there, CapacityError when there is not so much memory now."""
    for node in nodes:
        if node.image not in images:
            there = ", ".join(sorted(images))
            raise PermanentError(f"node {node.name}: there is no image {node.image!r}; there are: {there}")
    wanted, free = sum(node.resources.memory_mib for node in nodes), _free_mib()
    if wanted > free:
        raise CapacityError(f"{wanted} MiB of memory are wanted, and this machine has {free} MiB free")


def which(program: str) -> str | None:
    """Where a program is; an ordinary user's PATH leaves some places out on Debian."""
    return shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin")


def _free_mib() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) // 1024
    raise PermanentError("/proc/meminfo does not tell how much memory is available")
