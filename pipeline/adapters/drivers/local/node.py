"""One node: made by the runtime, wired by its first process, started; and taken away again, whatever there is of it."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
import time
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.adapters.drivers.local import cgroups, oci
from pipeline.adapters.drivers.local.image import SHIFT, Image
from pipeline.adapters.drivers.local.network import Network
from pipeline.adapters.drivers.local.process import (
    Commands,
    boot_id,
    last_lines,
    mount_overlay,
    mounts_below,
    start_time,
    unmount,
)
from pipeline.adapters.drivers.local.protocol import Refused
from pipeline.adapters.drivers.local.records import EnvironmentRecord, NodeRecord, Records
from pipeline.ports.drivers import NodeRequest

#: How long the kernel may take to let go of a killed node.
REMOVAL_PATIENCE_S = 10.0


#: For so long at most a boot is held down, in seconds; between two looks whether it is over.
BOOT_S = 10.0
LOOK_S = 0.02


@dataclass(frozen=True)
class Builder:
    """Makes and removes the nodes of one deployment."""

    commands: Commands
    records: Records
    network: Network

    def container(self, environment_id: str, node: str) -> str:
        return f"{environment_id}.{node}"

    def runc(self, *arguments: str) -> list[str]:
        return ["runc", "--root", str(self.records.runc_root), *arguments]

    def build(self, request: NodeRequest, record: NodeRecord, home: EnvironmentRecord, image: Image, key: str) -> None:
        """Make one node of which only the record exists. Refused when it cannot be made; the record says why."""
        try:
            started = self._build(request, record, home, image, key)
        except Refused as refused:
            self.records.save_node(replace(record, state="error", fault=str(refused)))
            raise
        self.records.save_node(started)

    def _build(
        self, request: NodeRequest, record: NodeRecord, home: EnvironmentRecord, image: Image, key: str
    ) -> NodeRecord:
        place = self.records.node_place(record.environment_id, record.name)
        name = self.container(record.environment_id, record.name)
        lay_out(place, request, hosts(home), key)
        (place / "config.json").write_text(json.dumps(oci.config(self._shape(request, record, image, place))))
        mount_overlay(image.root, place / "upper", place / "work", place / "rootfs", volatile=not record.throttled)
        create = self.runc("create", "--bundle", str(place), "--pid-file", str(place / "pid"), name)
        self.commands.run_detached(create, place / "console.log")
        pid = int((place / "pid").read_text())
        self.records.save_node(known := replace(record, pid=pid, started=start_time(pid) or 0))
        unmount(place / "rootfs")  # the node has it in a mount namespace of its own: with the node it is gone
        self.network.wire(home, record.name, pid, request.qos)
        group = self._group(record.environment_id, record.name)
        if image.systemd:
            cgroups.delegate(group)
        with cgroups.held_down(group):
            self.commands.run_detached(self.runc("start", name), place / "console.log")
            self._wait_for_login(known)
        return replace(known, state="active")

    def _wait_for_login(self, record: NodeRecord) -> None:
        """Wait until the node's boot is over: its sshd answers, it died, or it takes too long to be held down."""
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline and self.alive(record) and not answers(record.address):
            time.sleep(LOOK_S)

    def _shape(self, request: NodeRequest, record: NodeRecord, image: Image, place: Path) -> oci.NodeShape:
        return oci.NodeShape(
            hostname=record.name,
            cgroup=self._group(record.environment_id, record.name),
            rootfs=str(place / "rootfs"),
            systemd=image.systemd,
            resources=request.resources,
            qos=request.qos,
            device=cgroups.device_of(self.records.state) if record.throttled else None,
            swap=cgroups.limits_swap(),
            open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        )

    def _group(self, environment_id: str, node: str) -> str:
        return cgroups.group(self.records.deployment, environment_id, node)

    def alive(self, record: NodeRecord) -> bool:
        """Whether the node's first process is the one that was recorded; process ids are used again."""
        return record.boot == boot_id() and record.pid > 0 and start_time(record.pid) == record.started

    def fault(self, record: NodeRecord) -> str:
        """Say why a node is not alive."""
        if record.fault:
            return record.fault
        if record.boot != boot_id():
            return "the machine was started anew"
        if record.state == "building":
            return "its creation was interrupted"
        said = last_lines(self.records.node_place(record.environment_id, record.name) / "console.log")
        return "its first process ended" + (f"; it said: {said}" if said else "")

    def remove(self, environment_id: str, node: str, home: EnvironmentRecord | None) -> None:
        """Take away all there is of a node, and see that it is gone. Refused with `transient` when something stays."""
        deadline = time.monotonic() + REMOVAL_PATIENCE_S
        group = self._group(environment_id, node)
        self._lift_throttles(environment_id, node, group)
        if (self.records.runc_root / self.container(environment_id, node)).exists():
            with contextlib.suppress(Refused):  # half-made ones confuse it: what is left is removed by hand
                self.commands.run(self.runc("delete", "--force", self.container(environment_id, node)))
        cgroups.kill(group, deadline)
        cgroups.remove(group, deadline)
        if home is not None:
            self.network.unwire(home, node)
        self._remove_files(environment_id, node)
        if left := self._left(environment_id, node):
            raise Refused(
                "transient", f"node {node} of {environment_id}: {', '.join(left)} did not go; destroy it again"
            )

    def _lift_throttles(self, environment_id: str, node: str, group: str) -> None:
        record = self.records.node(environment_id, node)
        device = cgroups.device_of(self.records.state)
        if device and (record is None or record.throttled):
            cgroups.lift_throttles(group, device)

    def _remove_files(self, environment_id: str, node: str) -> None:
        place = self.records.node_place(environment_id, node)
        for mount in reversed(mounts_below(place)):
            unmount(mount)
        for directory in (self.records.runc_root / self.container(environment_id, node), place):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(directory)

    def _left(self, environment_id: str, node: str) -> list[str]:
        group = self._group(environment_id, node)
        place = self.records.node_place(environment_id, node)
        left = [f"process {pid}" for pid in cgroups.pids(group)]
        left += [f"control group {found}" for found in cgroups.places(group)]
        return left + [str(found) for found in (place, *mounts_below(place)) if found.exists()]


def answers(address: str) -> bool:
    """Whether a node's sshd greets who connects."""
    try:
        with socket.create_connection((address, 22), timeout=1) as connection:
            return bool(connection.recv(4))
    except OSError:
        return False


def hosts(home: EnvironmentRecord) -> str:
    """Name every node of the environment, as /etc/hosts wants it."""
    lines = [f"{home.address(name)} {name}" for name in home.addresses]
    return "\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *lines]) + "\n"


def lay_out(place: Path, request: NodeRequest, hosts_file: str, authorized_keys: str) -> None:
    """Write a node's own files into its empty upper layer, owned by its root."""
    for name in ("upper", "work", "rootfs"):
        (place / name).mkdir()
    upper = place / "upper"
    os.chown(upper, SHIFT, SHIFT)
    for name, mode in (("etc", 0o755), ("etc/ssh", 0o755), ("root", 0o700), ("root/.ssh", 0o700)):
        (upper / name).mkdir()
        _own(upper / name, mode)
    files = {
        "etc/hostname": (request.name + "\n", 0o644),
        "etc/hosts": (hosts_file, 0o644),
        "etc/ssh/ssh_host_ed25519_key": (request.host_key.reveal().rstrip("\n") + "\n", 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (request.host_public_key + "\n", 0o644),
        "root/.ssh/authorized_keys": (authorized_keys + "\n", 0o600),
    }
    for name, (content, mode) in files.items():
        _own_file(upper / name, content, mode)


def _own(path: Path, mode: int) -> None:
    path.chmod(mode)
    os.chown(path, SHIFT, SHIFT)


def _own_file(path: Path, content: str, mode: int) -> None:
    """Create a file with its final mode, so that a key is never readable to others."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    _own(path, mode)
