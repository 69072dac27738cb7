"""Nodes of vagrant-libvirt for tests: a libvirt and a deployment for each session, of which nothing is left."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.libvirt.guest import guests
from pipeline.adapters.drivers.vagrant.libvirt.provider import PROGRAMS, Here, Libvirt
from pipeline.adapters.drivers.vagrant.network import Network
from pipeline.adapters.drivers.vagrant.terms import ADDRESSES, Terms
from pipeline.adapters.drivers.vagrant.this_machine import lacking
from tests.plugins.local_nodes import ROOT, eventually, image_state

LINKS = Path("/sys/class/net")
SERVERS = {"libvirtd": "libvirt-daemon-system", "qemu-system-x86_64": "qemu-system-x86", "tc": "iproute2"}
#: Directories of the machine's libvirt, in whose place the daemon finds its own.
PLACES = {
    "/etc/libvirt": "etc", "/run/libvirt": "run", "/var/cache/libvirt": "cache", "/var/lib/libvirt": "var",
    "/var/log/libvirt": "logs",
}  # fmt: skip
#: QEMU runs as root and without guards of its own: there is no systemd, and what runs in the guests is ours.
QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
namespaces = []
cgroup_controllers = []
stdio_handler = "file"
"""
LIBVIRTD_CONF = """\
unix_sock_dir = "{place}/socket"
auth_unix_ro = "none"
auth_unix_rw = "none"
log_outputs = "2:file:{place}/log"
"""
#: Stands before libvirt's tc where the kernel lacks what that asks for; it bounds what comes in all the same.
TC_SHIM = ROOT / "tests/openstack/cloud/inside/tc.in"
START_S = 30.0


def why_not() -> str | None:
    """Say why this machine can have no nodes of vagrant-libvirt; None when it can."""
    missing = lacking({**PROGRAMS, **SERVERS}, "libvirt", "vagrant-libvirt")
    if missing:
        return f"nodes of vagrant-libvirt need more, which `scripts/setup vagrant-libvirt` brings: {'; '.join(missing)}"
    if os.geteuid() != 0:
        return "nodes of vagrant-libvirt need root"
    if not guests(image_state()):
        return "there is no guest: run `scripts/setup vagrant-libvirt`"
    return None


@contextlib.contextmanager
def running_libvirt(place: Path) -> Iterator[str]:
    """A libvirt whose files are all in a directory; its URI."""
    for name in (*PLACES.values(), "socket"):
        (place / name).mkdir()
    (place / "etc/qemu.conf").write_text(QEMU_CONF)
    (place / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(place=place))
    for theirs in PLACES:
        # They stay: what is mounted on a directory in another namespace goes with it.
        Path(theirs).mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        argv = ["unshare", "--mount", "--propagation", "slave", "sh", "-euc", _script(place)]
        process = stack.enter_context(
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        stack.callback(process.terminate)
        uri = f"qemu+unix:///system?socket={place}/socket/libvirt-sock"
        eventually(lambda: _answers(uri), "libvirt answers", START_S)
        stack.callback(_end_guests, uri)
        yield uri


def _script(place: Path) -> str:
    """Start the daemon where its places, and the shim, are in the place of the machine's."""
    real, shim = place / "tc", place / "tc-shim"
    found = Path(shutil.which("tc", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "").resolve()
    shutil.copy2(found, real)
    shim.write_text(TC_SHIM.read_text().replace("@TC@", str(real)))
    shim.chmod(0o755)
    mounts = {**{theirs: place / ours for theirs, ours in PLACES.items()}, str(found): shim}
    lines = [f"mount --bind {ours} {theirs}" for theirs, ours in mounts.items()]
    return "\n".join([*lines, f"exec /usr/sbin/libvirtd -f {place}/libvirtd.conf -p {place}/pid"])


def _answers(uri: str) -> bool:
    return subprocess.run(["virsh", "-c", uri, "version"], capture_output=True, check=False).returncode == 0


def _end_guests(uri: str) -> None:
    """What a test that failed left running would outlive libvirt."""
    for name in _virsh(uri, "list", "--name").split():
        _virsh(uri, "destroy", name)


def _virsh(uri: str, *words: str) -> str:
    argv = ["virsh", "--quiet", "--connect", uri, *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


@dataclass(frozen=True)
class LibvirtNodes:
    """Makes drivers of one deployment, or of strangers to it, whose files are below `home`."""

    home: Path
    deployment: str
    uri: str

    def driver(self, suffix: str = "", *, up_s: float = 240.0, state: Path | None = None) -> VagrantDriver:
        deployment = self.deployment + suffix
        here = Here(self.uri, state or self.state, ADDRESSES, emulate=True)
        return VagrantDriver(
            deployment,
            Terms(ROOT / "vagrant", dict, up_s=up_s),
            self.home / f"home{suffix}",
            lambda _: contextlib.nullcontext(lambda _: None),
            lambda add_box: Libvirt(deployment, here, add_box),
        )

    @property
    def state(self) -> Path:
        """Has the guests of this machine, and the storage pools of the session."""
        return self.home / "state"

    def virsh(self, *words: str) -> str:
        return _virsh(self.uri, *words)

    def domain(self, node: str, environment_id: str = "env-1") -> str:
        return f"greenroom.{self.deployment}.{environment_id}.{node}"

    def traces(self) -> list[str]:
        """What is there of the deployment at libvirt and on this machine."""
        prefix = Network(self.deployment, ADDRESSES, "libvirt").prefix
        links = [link.name for link in LINKS.iterdir() if link.name.startswith(prefix)]
        told = self.virsh("list", "--all", "--name").split() + self.virsh("pool-list", "--all", "--name").split()
        return links + told + [str(file) for file in (self.state / "libvirt").rglob("*")]


@pytest.fixture(scope="session")
def libvirt_nodes() -> Iterator[LibvirtNodes]:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="greenroom-libvirt-") as home:
        place = Path(home, "libvirt")
        place.mkdir()
        with running_libvirt(place) as uri:
            nodes = LibvirtNodes(Path(home), f"test{secrets.token_hex(4)}", uri)
            nodes.state.mkdir()
            (nodes.state / "guests").symlink_to(image_state() / "guests")
            yield nodes
            assert nodes.traces() == []
