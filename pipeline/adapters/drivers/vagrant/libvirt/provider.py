"""vagrant-libvirt: domains whose names are their marks, each with a layer of its own above a disk that all share."""

from __future__ import annotations

import ipaddress
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.vagrant.commands import machine_lock
from pipeline.adapters.drivers.vagrant.libvirt import box
from pipeline.adapters.drivers.vagrant.libvirt.domains import INITIAL_ROOT, Domains, pool_of
from pipeline.adapters.drivers.vagrant.libvirt.guest import DISK_GIB, Guest, guests
from pipeline.adapters.drivers.vagrant.libvirt.limits import limits
from pipeline.adapters.drivers.vagrant.libvirt.seed import seed
from pipeline.adapters.drivers.vagrant.network import Network, assigned, hardware_address
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import AddBox, Found
from pipeline.adapters.drivers.vagrant.seed import files, hosts
from pipeline.adapters.drivers.vagrant.this_machine import AS_ROOT, OnThisMachine, admit, lacking
from pipeline.domain.errors import TransientError
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, NodeRequest

#: Programs that are needed, and Debian's packages of them.
PROGRAMS = {
    "vagrant": "vagrant", "virsh": "libvirt-clients", "qemu-img": "qemu-utils", "ip": "iproute2", "nft": "nftables",
}  # fmt: skip
#: Stands where the processor helps with guests.
KVM = Path("/dev/kvm")
COMMAND_LINE = "console=ttyS0 quiet net.ifnames=0"


@dataclass(frozen=True)
class Here:
    """Where libvirt answers, where guests and disks are kept, and the range of which each environment gets a /24.

    `emulate`: guests go without the processor's help, where there is none or it is no good.
    """

    uri: str
    state: Path
    addresses: ipaddress.IPv4Network
    emulate: bool


class Libvirt(OnThisMachine):
    """`Provider` for virtual machines on this machine."""

    name = "libvirt"

    def __init__(self, deployment: str, here: Here, add_box: AddBox) -> None:
        self._deployment = deployment
        self._here = here
        self._add_box = add_box
        self._network = Network(deployment, here.addresses, "libvirt")
        self._domains = Domains(deployment, here.uri, pool_of(here.state, deployment))

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(images=tuple(guests(self._here.state)))

    def missing(self) -> Sequence[str]:
        found = lacking(PROGRAMS, "libvirt", "vagrant-libvirt")
        if not found:
            found += self._silent()
        if os.geteuid() != 0:
            found.append(f"networks of guests are made by root: {AS_ROOT}")
        if not guests(self._here.state):
            found.append("there is no guest on this machine: `scripts/setup vagrant-libvirt` builds one")
        return found

    def _silent(self) -> list[str]:
        try:
            self._domains.virsh("version")
        except TransientError as error:
            return [f"libvirt does not answer at {self._here.uri}: install and start libvirtd ({error})"]
        return []

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:  # noqa: ARG002  # the same for all projects
        admit(nodes, guests(self._here.state))

    def found(self) -> Sequence[Found]:
        return [
            Found(environment_id, node, self._domains.id(environment_id, node), domain.running, domain.address or None)
            for (environment_id, node), domain in self._domains.found().items()
        ]

    def environments(self) -> Mapping[str, float]:
        return {one.environment_id: one.ends_at for one in self._network.bridges() if one.environment_id}

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self._network.mark_end(environment_id, ends_at)

    def prepare(
        self, place: Place, request: EnvironmentRequest, nodes: Sequence[NodeRequest], standing: Sequence[Found]
    ) -> Mapping[str, Mapping[str, Any]]:
        known = guests(self._here.state)
        bridge = self._network.ensure(request.environment_id, request.ends_at)
        with machine_lock():
            self._domains.ensure_pool()
        boxes = {name: self._box(place, known[name]) for name in {node.image for node in nodes}}
        there = {one.node: one.address for one in standing if one.address}
        addresses = assigned(bridge.subnet, tuple(there.values()), [node.name for node in nodes])
        hosts_file, keys = hosts({**there, **addresses}), (request.authorized_key, *request.login_keys)
        machines = {}
        for node in nodes:
            guest, address = known[node.image], addresses[node.name]
            mac = hardware_address(address)
            initial_root = self._domains.file(request.environment_id, node.name, INITIAL_ROOT)
            _write(initial_root, guest.initial_root.read_bytes() + seed(files(node, hosts_file, keys), address, mac))
            settings = {
                **self._common(request.environment_id, node.name), **self._sized(node), **self._processor(),
                "kernel": str(guest.kernel), "initrd": str(initial_root), "title": address,
            }  # fmt: skip
            wired = {"bridge": bridge.link, "mac": mac, "limits": limits(node.qos)}
            machines[node.name] = {"box": boxes[node.image], "settings": settings, **wired}
        return machines

    def known(self, found: Found) -> Mapping[str, Any]:
        return {"box": "greenroom", "settings": self._common(found.environment_id, found.node), "limits": {}}

    def reason(self, place: Place, found: Found) -> str:  # noqa: ARG002  # libvirt keeps it
        return self._domains.state(found.environment_id, found.node)

    def remove(self, found: Found) -> None:
        self._domains.remove(found.environment_id, found.node)

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        if nodes is not None:
            return
        self._network.release(environment_id)
        with machine_lock():
            if not self._network.bridges() and not self._domains.found():
                self._domains.remove_pool()

    def _common(self, environment_id: str, node: str) -> dict[str, Any]:
        """How a domain is found, and where its files are."""
        return {
            "uri": self._here.uri,
            "storage_pool_name": self._domains.pool_name,
            "default_prefix": self._domains.name(environment_id, ""),
            "uuid": self._domains.id(environment_id, node),
        }

    def _sized(self, node: NodeRequest) -> dict[str, Any]:
        """Whole processors; a disk that is smaller than the image's is as large as that."""
        resources = node.resources
        size = max(resources.disk_gib, DISK_GIB)
        return {"cpus": math.ceil(resources.vcpu), "memory": resources.memory_mib, "machine_virtual_size": size}

    def _processor(self) -> dict[str, Any]:
        if self._here.emulate:
            # What keeps processes from each other's secrets is slow there: it takes a third of the time.
            processor = {"driver": "qemu", "cpu_mode": "custom", "cpu_model": "qemu64"}
            return {**processor, "cmd_line": f"{COMMAND_LINE} mitigations=off"}
        return {"driver": "kvm", "cpu_mode": "host-passthrough", "cmd_line": COMMAND_LINE}

    def _box(self, place: Place, guest: Guest) -> str:
        name = box.name_of(self._deployment, guest)
        file = place.path / f"{guest.name}.box"
        box.pack(file, guest)
        self._add_box(place, name, file)
        file.unlink()
        with machine_lock():
            self._domains.ensure_layer(box.volume_of(name), guest.disk, DISK_GIB)
        return name


def must_emulate() -> bool:
    """Whether this machine's processor helps nobody with guests."""
    return not KVM.exists()


def _write(path: Path, content: bytes) -> None:
    """Create a file that nobody else can read: there is a private key in it."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
