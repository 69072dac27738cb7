"""What a node is promised, as libvirt's definition of a domain limits its disk and its interface."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain.qos import QosProfile

#: Bits in what libvirt calls a kilobyte.
KILOBYTE = 8000


def limits(qos: QosProfile) -> Mapping[str, Any]:
    """By device: the element that limits it, and what that says; nothing of a device that is not limited."""
    disk = {
        "read_bytes_sec": qos.disk_read_bytes, "write_bytes_sec": qos.disk_write_bytes,
        "read_iops_sec": qos.disk_read_iops, "write_iops_sec": qos.disk_write_iops,
    }  # fmt: skip
    interface = {"inbound": _average(qos.network_in), "outbound": _average(qos.network_out)}
    told = {"disk": ("iotune", _said(disk)), "interface": ("bandwidth", _said(interface))}
    return {device: (kind, said) for device, (kind, said) in told.items() if said}


def _said(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}


def _average(rate: int | None) -> dict[str, str] | None:
    return None if rate is None else {"average": str(max(1, rate // KILOBYTE))}
