"""Quality of service: what a node is promised, and how firmly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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
