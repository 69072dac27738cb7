"""Quality of service: what a node is promised, and how firmly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_RATE = re.compile(r"(\d{1,12}(?:\.\d{1,6})?) ?([A-Za-z]+)/s", re.ASCII)
_NETWORK_UNITS: Mapping[str, int] = {"bit": 1, "kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9, "Tbit": 10**12}
_DISK_UNITS: Mapping[str, int] = {
    "B": 1,
    "kB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}


class QosClass(StrEnum):
    """How firm the promise is: guaranteed is kept first, best-effort gives way first."""

    GUARANTEED = "guaranteed"
    BURSTABLE = "burstable"
    BEST_EFFORT = "best-effort"


@dataclass(frozen=True)
class QosProfile:
    """Upper bounds of one node; `None` means not limited.

    IOPS are operations/s, `disk_*_bytes` are bytes/s, `network_*` are bits/s.
    """

    qos_class: QosClass = QosClass.BURSTABLE
    disk_read_iops: int | None = None
    disk_write_iops: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    network_in: int | None = None
    network_out: int | None = None


def network_rate(text: str) -> int:
    """Bits/s of `100Mbit/s`; ValueError for anything else, bytes/s above all."""
    return _rate(text, _NETWORK_UNITS, "a network rate in bits such as 100Mbit/s", _DISK_UNITS, "bytes")


def disk_rate(text: str) -> int:
    """Bytes/s of `50MB/s` (10^6) or `50MiB/s` (2^20); ValueError for anything else, bits/s above all."""
    return _rate(text, _DISK_UNITS, "a disk rate in bytes such as 50MB/s or 50MiB/s", _NETWORK_UNITS, "bits")


def _rate(text: str, units: Mapping[str, int], expected: str, foreign: Mapping[str, int], foreign_name: str) -> int:
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"expected {expected}, got {text!r}")
    number, unit = match.groups()
    if unit in foreign:
        raise ValueError(f"expected {expected}, got {foreign_name} in {text!r} (1 byte is 8 bits)")
    if unit not in units:
        raise ValueError(f"expected {expected}, got the unit {unit}/s; known are {', '.join(f'{u}/s' for u in units)}")
    rate = round(float(number) * units[unit])
    if not rate:
        raise ValueError(f"expected more than nothing, got {text!r}")
    return rate
