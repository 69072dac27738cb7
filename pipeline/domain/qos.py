"""Quality of service: what a node is promised, and how firmly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

#: Bits or bytes a second beyond which a rate is a mistake.
MOST_RATE = 10**13
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

    IOPS are operations/s, `disk_*_bytes` are bytes/s, `network_*` are bits/s. `cpu_shares` is the weight of each of
    the node's cores against other nodes while the machine is busy (1024 is usual); `None` goes by the class.
    """

    qos_class: QosClass = QosClass.BURSTABLE
    disk_read_iops: int | None = None
    disk_write_iops: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    network_in: int | None = None
    network_out: int | None = None
    cpu_shares: int | None = None


def _same_both_ways(class_: QosClass, cpu_shares: int, iops: int, disk_bytes: int, network: int) -> QosProfile:
    return QosProfile(class_, iops, iops, disk_bytes, disk_bytes, network, network, cpu_shares)


#: Profiles that a blueprint may name, from little to much.
PROFILES: Mapping[str, QosProfile] = {
    "frugal": _same_both_ways(QosClass.BEST_EFFORT, 256, 200, 10 * 10**6, 50 * 10**6),
    "steady": _same_both_ways(QosClass.GUARANTEED, 2048, 1000, 50 * 10**6, 200 * 10**6),
    "strong": _same_both_ways(QosClass.GUARANTEED, 4096, 5000, 200 * 10**6, 10**9),
}


#: Whole numbers of a profile, and between what they may be.
_WHOLE: Mapping[str, tuple[int, int]] = {
    "cpu_shares": (2, 16384),
    "disk_read_iops": (1, 10**7),
    "disk_write_iops": (1, 10**7),
}
_KEYS = (
    "profile", "class", *_WHOLE, "disk_read_bytes", "disk_write_bytes", "network_in", "network_out",
)  # fmt: skip


def checked_profile(told: Mapping[str, object]) -> QosProfile:
    """The profile that an operator defines, in the words of a blueprint's `qos`; ValueError names key and value."""
    values: dict[str, str | int] = {}
    for key, value in told.items():
        if key not in _KEYS:
            close = get_close_matches(key, _KEYS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(_KEYS)}"
            raise ValueError(f"unknown key {key!r}; {hint}")
        values[key] = _checked_value(key, value)
    base = PROFILES[str(values.pop("profile"))] if "profile" in values else QosProfile()
    return profile_of(values, base)


def _checked_value(key: str, value: object) -> str | int:
    if key in _WHOLE:
        least, most = _WHOLE[key]
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise ValueError(f"{key}: expected a whole number from {least} to {most}, got {value!r}")
        return value
    text = value if isinstance(value, str) else repr(value)
    if key not in ("class", "profile"):
        _named(key, disk_rate if key.endswith("_bytes") else network_rate, text)
        return text
    choices: Sequence[str] = list(QosClass) if key == "class" else list(PROFILES)
    if text not in choices:
        raise ValueError(f"{key}: expected {' or '.join(choices)}, got {value!r}")
    return text


def _named(key: str, parse: Callable[[str], int], text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def profile_of(told: Mapping[str, str | int], base: QosProfile) -> QosProfile:
    """`base` with what a blueprint says over it; keys and values were checked against its schema."""
    values: dict[str, Any] = {}
    for key, value in told.items():
        if key == "class":
            values["qos_class"] = QosClass(str(value))
        elif key.endswith("_bytes"):
            values[key] = disk_rate(str(value))
        else:
            values[key] = network_rate(value) if isinstance(value, str) else value
    return replace(base, **values)


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
    if rate > MOST_RATE:
        raise ValueError(f"expected at most 10^13 a second, which no machine has, got {text!r}")
    if not rate:
        raise ValueError(f"expected more than nothing, got {text!r}")
    return rate
