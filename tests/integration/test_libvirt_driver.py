"""Nodes of vagrant-libvirt: two guests that boot, and domains when things go wrong, which need not boot for it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.libvirt import guest
from pipeline.adapters.drivers.vagrant.libvirt.domains import Domains, pool_of
from pipeline.domain.errors import TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, Listing, NodeRequest, NodeStatus, OwnedEnvironment
from tests.integration.test_vagrant_driver import working_in
from tests.plugins.libvirt_nodes import LibvirtNodes
from tests.plugins.local_nodes import IMAGE, Keys, eventually

ENDS_AT = 2_000_000_000.0
PATIENCE_S = 60.0
#: Emulated processors beside other work.
BOOT_S = 400.0
SMALL = Resources(vcpu=1, memory_mib=256, disk_gib=3)
#: Too little to come far, and enough to be there.
TINY = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)
#: 8 Mbit/s are a million bytes a second.
BOUND = QosProfile(disk_write_iops=20, network_in=8 * 10**6)
STRANGER = """\
<domain type='qemu'><name>web-0</name><memory unit='MiB'>64</memory><os><type>hvm</type></os></domain>
"""
SHUT_OFF = """\
<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2'/><source file='{layer}'/><target dev='vda'/></disk>
  </devices>
</domain>
"""

pytestmark = [pytest.mark.libvirt, pytest.mark.timeout(300)]


@pytest.fixture
def driver(libvirt_nodes: LibvirtNodes) -> Iterator[VagrantDriver]:
    made = libvirt_nodes.driver()
    yield made
    made.clean()
    assert libvirt_nodes.traces() == []


def request(
    nodes: LibvirtNodes, keys: Keys, *names: str, size: Resources = TINY, qos: QosProfile | None = None
) -> EnvironmentRequest:
    wanted = tuple(
        NodeRequest(name, "web", IMAGE, size, qos or QosProfile(), keys.host, keys.host_public) for name in names
    )
    return EnvironmentRequest(nodes.deployment, "env-1", "shop", keys.login_public, ENDS_AT, wanted)


def active(driver: VagrantDriver) -> list[str]:
    return sorted(view.name for view in driver.nodes() if view.status is NodeStatus.ACTIVE)


def vagrants(nodes: LibvirtNodes) -> list[int]:
    place = nodes.home / "home/environments/env-1"
    return [pid for pid, command in working_in(place).items() if "ruby" in command]


class Login:
    """Commands in a node as root, whose host key must be the one that it was given."""

    def __init__(self, place: Path, keys: Keys, address: str) -> None:
        key, known = place / "key", place / f"known-{address}"
        key.touch(mode=0o600)
        key.write_text(keys.login.reveal())
        known.write_text(f"{address} {keys.host_public}\n")
        options = [f"UserKnownHostsFile={known}", "StrictHostKeyChecking=yes", "BatchMode=yes", "ConnectTimeout=5"]
        given = [word for option in options for word in ("-o", option)]
        self._argv = ["ssh", "-F", "none", "-i", str(key), *given, f"root@{address}"]

    def answers(self) -> bool:
        return self.run("true").returncode == 0

    def run(self, command: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([*self._argv, command], input=data, capture_output=True, timeout=120, check=False)

    def said(self, command: str, data: bytes = b"") -> str:
        done = self.run(command, data)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()


@pytest.mark.timeout(600)
def test_two_guests_are_what_was_asked_for_and_nothing_of_them_is_left(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys, tmp_path: Path
) -> None:
    driver.create(request(libvirt_nodes, node_keys, "web-0", "web-1", size=SMALL, qos=BOUND))
    address = {view.name: str(view.address) for view in driver.nodes()}
    logins = {name: Login(tmp_path, node_keys, address[name]) for name in ("web-0", "web-1")}
    eventually(lambda: all(login.answers() for login in logins.values()), "both are logged in to", BOOT_S)

    first = logins["web-0"]
    assert [login.said("hostname") for login in logins.values()] == ["web-0", "web-1"]
    assert f"{address['web-1']} web-1" in first.said("cat /etc/hosts")
    assert int(first.said("df --output=size -BM / | tail -1").rstrip("M")) > 2500, "the disk grew to its size"
    _reach_each_other_and_not_the_machine(first, address["web-1"])
    _is_bound(first)

    driver.destroy("env-1")
    assert driver.list() == Listing()
    assert libvirt_nodes.traces() == []


def _reach_each_other_and_not_the_machine(login: Login, neighbour: str) -> None:
    machine = neighbour.rpartition(".")[0] + ".1"
    with socket.create_server((machine, 0)) as server:
        port = server.getsockname()[1]
        connect = "timeout 5 bash -c '</dev/tcp/{}/{}'"
        assert login.run(connect.format(neighbour, 22)).returncode == 0
        assert login.run(connect.format(machine, port)).returncode != 0
        with socket.create_connection((machine, port), timeout=5):
            pass


def _is_bound(login: Login) -> None:
    """The disk by QEMU, what comes in by the machine."""
    timed = "s=$(date +%s%N); {}; e=$(date +%s%N); echo $(((e - s) / 1000000))"
    writing = "dd if=/dev/zero of=/var/tmp/file bs=4k count=100 oflag=direct status=none"
    assert 4_000 < int(login.said(timed.format(writing))) < 30_000
    size = 8 * 10**6
    assert 6_500 < int(login.said(timed.format(f"head -c {size} >/dev/null"), bytes(size))) < 40_000


def test_a_call_that_takes_too_long_is_ended(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys
) -> None:
    wanted = request(libvirt_nodes, node_keys, "web-0")
    with pytest.raises(TransientError, match=r"took longer than 0\.5 s"):
        libvirt_nodes.driver(up_s=0.5).create(wanted)
    driver.create(wanted)
    assert active(driver) == ["web-0"]


def test_vagrant_killed_in_midway_is_recovered(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys
) -> None:
    wanted = request(libvirt_nodes, node_keys, "web-0", "web-1")
    pool = libvirt_nodes.state / "libvirt" / libvirt_nodes.deployment
    with ThreadPoolExecutor(1) as pool_of_threads:
        making = pool_of_threads.submit(driver.create, wanted)
        eventually(lambda: any(pool.glob("*.img")), "a disk begins to be", PATIENCE_S)
        eventually(lambda: bool(vagrants(libvirt_nodes)), "vagrant runs", PATIENCE_S)
        for pid in vagrants(libvirt_nodes):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransientError, match=r"vagrant up in .* failed with status 137"):
            making.result(PATIENCE_S)
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]


def test_a_domain_that_was_removed_behind_its_back_is_made_again(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys
) -> None:
    wanted = request(libvirt_nodes, node_keys, "web-0", "web-1")
    driver.create(wanted)
    for word in ("destroy", "undefine"):
        libvirt_nodes.virsh(word, libvirt_nodes.domain("web-1"))
    assert active(driver) == ["web-0"]
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]


def test_a_domain_that_was_stopped_says_so(driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys) -> None:
    driver.create(request(libvirt_nodes, node_keys, "web-0"))
    libvirt_nodes.virsh("destroy", libvirt_nodes.domain("web-0"))
    (view,) = driver.nodes()
    assert (view.status, view.fault) == (NodeStatus.ERROR, "it does not run: shut off (destroyed)")


def test_what_is_there_is_found_and_removed_without_any_file_of_ours(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    driver.create(request(libvirt_nodes, node_keys, "web-0"))
    shutil.rmtree(libvirt_nodes.home / "home")
    assert driver.list().environments == (OwnedEnvironment("env-1", ENDS_AT),)
    assert active(driver) == ["web-0"]
    driver.destroy("env-1")
    assert driver.list() == Listing()
    assert "removed without vagrant" not in caplog.text


def test_a_disk_without_a_domain_is_seen_and_goes(driver: VagrantDriver, libvirt_nodes: LibvirtNodes) -> None:
    disk = libvirt_nodes.state / "libvirt" / libvirt_nodes.deployment / f"{libvirt_nodes.domain('web-0')}.img"
    disk.parent.mkdir(parents=True)
    disk.touch()
    (view,) = driver.nodes()
    assert (view.environment_id, view.name, view.status) == ("env-1", "web-0", NodeStatus.ERROR)
    driver.destroy("env-1")
    assert not disk.exists()


def test_a_guest_that_does_not_start_says_why(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys, tmp_path: Path
) -> None:
    """Its kernel is missing."""
    broken = tmp_path / "guests/debian-12@broken"
    broken.mkdir(parents=True)
    for name in ("disk.img", "initrd"):
        (broken / name).symlink_to(libvirt_nodes.state / "guests/debian-12" / name)
    broken.with_name("debian-12").symlink_to(broken)
    with pytest.raises(TransientError, match="vmlinuz"):
        libvirt_nodes.driver(state=tmp_path).create(request(libvirt_nodes, node_keys, "web-0"))


def test_an_older_guest_stays_while_a_domain_that_does_not_run_has_a_layer_above_it(
    libvirt_nodes: LibvirtNodes, tmp_path: Path
) -> None:
    places = {key: tmp_path / f"guests/debian-12@{key}" for key in ("now", "used", "old")}
    for place in places.values():
        place.mkdir(parents=True)
        with (place / "disk.img").open("wb") as disk:
            disk.truncate(1 << 20)
    deployment = libvirt_nodes.deployment + "g"
    domains, node = Domains(deployment, libvirt_nodes.uri, pool_of(tmp_path, deployment)), "greenroom.g.env-1.web-0"
    domains.ensure_pool()
    try:
        domains.ensure_layer("box.img", places["used"] / "disk.img", 1)
        above = ("--format", "qcow2", "--backing-vol", "box.img", "--backing-vol-format", "qcow2")
        libvirt_nodes.virsh("vol-create-as", domains.pool_name, f"{node}.img", "1GiB", *above)
        (tmp_path / "node.xml").write_text(SHUT_OFF.format(name=node, layer=domains.pool / f"{node}.img"))
        libvirt_nodes.virsh("define", str(tmp_path / "node.xml"))
        guest._drop_unused(tmp_path, places["now"])
        assert sorted(key for key, place in places.items() if place.exists()) == ["now", "used"]
        libvirt_nodes.virsh("undefine", node)
    finally:
        domains.remove_pool()
    guest._drop_unused(tmp_path, places["now"])
    assert [key for key, place in places.items() if place.exists()] == ["now"]


def test_a_strangers_domain_stays(
    driver: VagrantDriver, libvirt_nodes: LibvirtNodes, node_keys: Keys, tmp_path: Path
) -> None:
    (tmp_path / "stranger.xml").write_text(STRANGER)
    libvirt_nodes.virsh("define", str(tmp_path / "stranger.xml"))
    try:
        driver.create(request(libvirt_nodes, node_keys, "web-0"))
        driver.clean()
        assert driver.list() == Listing()
        assert libvirt_nodes.virsh("list", "--all", "--name").split() == ["web-0"]
    finally:
        libvirt_nodes.virsh("undefine", "web-0")
