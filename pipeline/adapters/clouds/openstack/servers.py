"""A server of Nova as the domain knows servers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.clients.openstack import marks
from pipeline.domain.drift import Server

#: Nova's field for its flavors' fields, by dimension: cores, MiB, GiB.
SIZES = {"vcpu": "vcpus", "memory_mib": "ram", "disk_gib": "disk"}


def server_of(found: Any) -> Server:
    """A server as openstacksdk shows it: the machine is known to administrators alone."""
    metadata = found.metadata or {}
    mark = marks.marked(metadata)
    status = str(found.status or "").lower()
    return Server(
        id=found.id,
        name=found.name or "",
        status="building" if status == "build" else status,
        address=metadata.get(marks.ADDRESS, "") if mark else _address(found.addresses or {}),
        flavor=found.flavor.get("original_name") or found.flavor.get("name") or "",
        size={name: float(found.flavor[field]) for name, field in SIZES.items() if found.flavor.get(field) is not None},
        zone=found.availability_zone or "",
        machine=found.compute_host or "",
        project=found.project_id or "",
        created_at=datetime.fromisoformat(found.created_at).timestamp() if found.created_at else 0.0,
        fault=(found.fault or {}).get("message", ""),
        deployment=mark.deployment if mark else "",
        environment_id=mark.environment_id if mark else "",
        node=metadata.get(marks.NODE, "") if mark else "",
        ends_at=_number(metadata.get(marks.ENDS_AT, "")) if mark else 0.0,
    )


def _address(addresses: dict[str, list[dict[str, str]]]) -> str:
    """The floating address if there is one, else the first fixed one."""
    found = [one for on_network in addresses.values() for one in on_network]
    found.sort(key=lambda one: one.get("OS-EXT-IPS:type") != "floating")
    return found[0]["addr"] if found else ""


def _number(text: str) -> float:
    """What anybody may have written there."""
    return float(text) if text.isascii() and text.isdecimal() else 0.0
