"""What a node takes of a machine."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Resources:
    """`vcpu` in cores, `memory_mib` in MiB, `disk_gib` in GiB; `hugepages_mib` in MiB, beside the memory."""

    vcpu: float
    memory_mib: int
    disk_gib: int
    hugepages_mib: int = 0


#: Sizes a role may ask for by name.
SIZES: Mapping[str, Resources] = {
    "tiny": Resources(vcpu=0.5, memory_mib=256, disk_gib=2),
    "small": Resources(vcpu=1, memory_mib=512, disk_gib=5),
    "medium": Resources(vcpu=2, memory_mib=2048, disk_gib=10),
    "large": Resources(vcpu=4, memory_mib=8192, disk_gib=40),
}

#: What is counted on a machine, in the order of every vector; rates are operations/s, bytes/s and bits/s.
DIMENSIONS: Final = (
    "vcpu",
    "memory_mib",
    "disk_gib",
    "disk_read_iops",
    "disk_write_iops",
    "disk_read_bytes",
    "disk_write_bytes",
    "network_in",
    "network_out",
    "hugepages_mib",
)
#: The unit that a person reads behind each dimension.
UNITS: Mapping[str, str] = {
    "vcpu": "vCPU",
    "memory_mib": "MiB memory",
    "disk_gib": "GiB disk",
    "disk_read_iops": "read IOPS",
    "disk_write_iops": "write IOPS",
    "disk_read_bytes": "bytes/s disk read",
    "disk_write_bytes": "bytes/s disk write",
    "network_in": "bit/s network in",
    "network_out": "bit/s network out",
    "hugepages_mib": "MiB huge pages",
}
#: What a machine has of a dimension that its capacity does not name: as much as is wanted, but of these nothing.
UNNAMED: Mapping[str, float] = {name: 0.0 if name == "hugepages_mib" else math.inf for name in DIMENSIONS}
#: One number a dimension, in the order of `DIMENSIONS`.
Vector = tuple[float, ...]
NOTHING: Vector = (0.0,) * len(DIMENSIONS)
_SIZE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?) ?([A-Za-z]*)", re.ASCII)
_MIB: Mapping[str, float] = {"MiB": 1, "GiB": 1024, "TiB": 1024 * 1024}


def parse_size(text: str) -> float:
    """MiB of a size such as `256GiB`; ValueError for anything else, also for one without its unit."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected a size such as 256GiB, got {text[:80]!r}")
    number, unit = match.groups()
    if unit not in _MIB:
        given = f"the unit {unit}" if unit else "no unit"
        raise ValueError(f"expected a size such as 256GiB, got {given} in {text!r}; known are {', '.join(_MIB)}")
    if not float(number):
        raise ValueError(f"expected more than nothing, got {text!r}")
    return float(number) * _MIB[unit]
