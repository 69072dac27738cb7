"""What a node takes of a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Resources:
    """`vcpu` in cores, `memory_mib` in MiB, `disk_gib` in GiB."""

    vcpu: float
    memory_mib: int
    disk_gib: int


#: Sizes a role may ask for by name.
SIZES: Mapping[str, Resources] = {
    "tiny": Resources(vcpu=0.5, memory_mib=256, disk_gib=2),
    "small": Resources(vcpu=1, memory_mib=512, disk_gib=5),
    "medium": Resources(vcpu=2, memory_mib=2048, disk_gib=10),
    "large": Resources(vcpu=4, memory_mib=8192, disk_gib=40),
}
