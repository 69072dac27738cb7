"""What nodes are promised is what is measured inside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.adapters.drivers.local import cgroups
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.qos import QosProfile
from pipeline.envs.qos import measure
from tests.plugins.local_nodes import LocalNodes

pytestmark = pytest.mark.local


def measured(nodes: LocalNodes, place: Path, qos: QosProfile) -> dict[str, bool]:
    """Directions that were promised, and whether they were kept."""
    transport = OpenSshTransport(str(place / "ssh"))
    with nodes.environment("web-0", "web-1", qos=qos) as access:
        try:
            with transport.connect(access) as connection:
                found = measure(connection, access, dict.fromkeys(("web-0", "web-1"), qos), access.nodes[:1])
        finally:
            transport.close(access.environment_id)
    print(*found, sep="\n")  # noqa: T201 - what a failure is read from
    return {one.direction: one.kept for one in found}


def test_network_promises_are_kept(local_nodes: LocalNodes, tmp_path: Path) -> None:
    qos = QosProfile(network_in=50_000_000, network_out=50_000_000)
    assert measured(local_nodes, tmp_path, qos) == {"network_in": True, "network_out": True}


def test_disk_promises_are_kept(local_nodes: LocalNodes, tmp_path: Path) -> None:
    if cgroups.device_of(local_nodes.helper.state) is None:
        pytest.skip(f"{local_nodes.helper.state} is not on a disk that can be throttled")
    qos = QosProfile(disk_read_iops=200, disk_write_iops=200, disk_read_bytes=5_000_000, disk_write_bytes=5_000_000)
    found = measured(local_nodes, tmp_path, qos)
    assert found == dict.fromkeys(("disk_read_iops", "disk_write_iops", "disk_read_bytes", "disk_write_bytes"), True)
