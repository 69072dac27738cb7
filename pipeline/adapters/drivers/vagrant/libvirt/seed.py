"""What the initial root of a guest brings of one node: its files, and how its interface is set up."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.adapters.drivers.vagrant.libvirt.initial import SEED, File, packed
from pipeline.adapters.drivers.vagrant.seed import PRIVATE

NETWORK = """\
[Match]
MACAddress={mac}

[Network]
Address={address}/24
Gateway={gateway}
LinkLocalAddressing=no
IPv6AcceptRA=no
"""


def seed(files: Mapping[str, tuple[str, int]], address: str, mac: str) -> bytes:
    """The archive that the kernel unpacks beside the image's own."""
    network = NETWORK.format(mac=mac, address=address, gateway=address.rpartition(".")[0] + ".1")
    told = {**files, "etc/systemd/network/10-node.network": (network, 0o644)}
    entries = {f"{SEED}/{name}": File(content.encode(), mode) for name, (content, mode) in told.items()}
    return packed(entries, frozenset(f"{SEED}/{directory}" for directory in PRIVATE))
