"""Which flavor a node gets: the smallest that holds it and keeps its promises."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources

MIB_PER_GIB = 1024
#: Nova's extra specs for bounds, by the promise; `quota:vif_*` count in kB/s, promises in bit/s.
_DISK = {
    "disk_read_iops": "quota:disk_read_iops_sec",
    "disk_write_iops": "quota:disk_write_iops_sec",
    "disk_read_bytes": "quota:disk_read_bytes_sec",
    "disk_write_bytes": "quota:disk_write_bytes_sec",
    "cpu_shares": "quota:cpu_shares",
}
_NETWORK = {"network_in": "quota:vif_inbound_average", "network_out": "quota:vif_outbound_average"}
BITS_PER_KB = 8000


@dataclass(frozen=True)
class Flavor:
    """`ram` in MiB, `disk` in GiB."""

    id: str
    name: str
    vcpus: int
    ram: int
    disk: int
    extra_specs: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Any) -> Flavor:
        """A flavor as openstacksdk shows it."""
        return cls(found.id, found.name, found.vcpus, found.ram, found.disk, dict(found.extra_specs or {}))


@dataclass(frozen=True)
class Wanted:
    """What a node's flavor has to be: sizes at least, extra specs exactly; `asked` are those that its project sets."""

    vcpus: int
    ram: int
    disk: int
    extra_specs: Mapping[str, str]
    asked: Mapping[str, str]

    @property
    def name(self) -> str:
        """What a flavor that is made for it is called: two that are alike have one name."""
        told = json.dumps([self.vcpus, self.ram, self.disk, sorted(self.extra_specs.items())])
        return f"greenroom-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def wanted(resources: Resources, qos: QosProfile, more: Mapping[str, str]) -> Wanted:
    """What a node asks for; `more` are extra specs that its project sets."""
    specs = {spec: str(getattr(qos, name)) for name, spec in _DISK.items() if getattr(qos, name) is not None}
    for name, spec in _NETWORK.items():
        if (rate := getattr(qos, name)) is not None:
            specs[spec] = str(max(1, round(rate / BITS_PER_KB)))
    if resources.hugepages_mib:
        specs["hw:mem_page_size"] = "large"
    ram = resources.memory_mib + resources.hugepages_mib
    return Wanted(max(1, math.ceil(resources.vcpu)), ram, resources.disk_gib, {**specs, **more}, more)


def having(specs: Mapping[str, str], flavors: Sequence[Flavor]) -> list[Flavor]:
    """The flavors that have these extra specs, and perhaps more."""
    return [one for one in flavors if specs.items() <= one.extra_specs.items()]


def best(wish: Wanted, flavors: Sequence[Flavor]) -> Flavor | None:
    """Of flavors that have what was asked for: one with exactly these promises, else one without any other, and of
    those the one that wastes least.

    One without promises holds the node, although the cloud does not keep its bounds; one with others would break them.
    """
    fitting = [one for one in flavors if one.vcpus >= wish.vcpus and one.ram >= wish.ram and one.disk >= wish.disk]
    exact = [one for one in fitting if _promises(one.extra_specs) == _promises(wish.extra_specs)]
    plain = [one for one in fitting if _promises(one.extra_specs) == _promises(wish.asked)]
    return min(exact or plain, key=_waste(wish), default=None)


def made_for(wish: Wanted, flavors: Sequence[Flavor]) -> Flavor | None:
    """The flavor that was made for such nodes, perhaps without its extra specs yet: whoever made it may have died."""
    return next((one for one in flavors if one.name == wish.name), None)


def _promises(specs: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in specs.items() if name.startswith(("quota:", "hw:mem_page_size"))}


def _waste(wish: Wanted) -> Callable[[Flavor], tuple[float, int, str]]:
    def waste(flavor: Flavor) -> tuple[float, int, str]:
        more = (flavor.vcpus / wish.vcpus, flavor.ram / max(1, wish.ram), flavor.disk / max(1, wish.disk))
        return (sum(more), len(flavor.extra_specs), flavor.name)

    return waste
