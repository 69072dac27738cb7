"""One hypervisor that is real: libvirt with QEMU's software emulation, Open vSwitch in user space, Neutron's agents.

libvirtd gets a mount namespace in which its directories are the cloud's own, so that nothing of a libvirt that the
machine has is touched, and in which a shim stands before `tc`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from openstack.connection import Connection

from tests.openstack.cloud import packages, plane, seed
from tests.openstack.cloud.config import render, words
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import HERE, State

NAME = "real-1"
ZONE = "rack-B-1"
BRIDGE = "br-ex"
IMAGE = "tiny-debian"
SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
#: Directories of libvirt, each with the cloud's own in its place.
PLACES = {"/etc/libvirt": "libvirt-etc", "/run/libvirt": "libvirt-run", "/var/lib/libvirt": "libvirt-var"}
AGENTS = {"switch-agent": "openvswitch-agent", "dhcp-agent": "dhcp-agent", "router-agent": "l3-agent"}
QUEUES = ("q-plugin", "q-l3-plugin", "q-reports-plugin")
#: How long a router's way out may take until it is wired, and between two looks of the switch's agent, in seconds.
WIRED_S, AGENT_LOOK_S = 4.0, 3.0
#: How Neutron calls the network namespaces that it makes.
NAMESPACES = ("qdhcp-", "qrouter-")


def prepare(state: State, processes: Processes) -> str:
    """What needs no control plane: the guest's image, the switch and libvirt, whose URI it returns."""
    _build_guest(state)
    packages.link_binding(state)
    _start_switch(state, processes)
    return _start_libvirt(state, processes)


def start(state: State, processes: Processes, uri: str) -> None:
    """The agents and the hypervisor itself, when all is prepared and the control plane is up."""
    _start_agents(state, processes)
    plane.start_compute(state, processes, NAME, "compute-real.conf", {"libvirt": uri})
    cloud = seed.connect(state, "admin", "admin")
    _upload(state, cloud)
    seed.until_up(cloud, [NAME])
    seed.aggregate(cloud, ZONE, [NAME], ZONE)
    seed.until(lambda: len(list(cloud.network.agents(host=NAME, is_alive=True))) >= len(AGENTS), "Neutron's agents")
    _until_routers_answer(cloud)
    state.hypervisor_mark.touch()


def _until_routers_answer(cloud: Connection) -> None:
    """The switch's agent asks for a port before that is bound, and leaves it unwired then: it is told once more."""
    ports = list(cloud.network.ports(device_owner="network:router_gateway"))

    def silent() -> list[Any]:
        ask = ["arping", "-q", "-f", "-c", "1", "-w", "1", "-I", BRIDGE]
        return [port for port in ports if not _succeeds([*ask, port.fixed_ips[0]["ip_address"]])]

    deadline = time.monotonic() + WIRED_S
    while (left := silent()) and time.monotonic() < deadline:
        time.sleep(0.5)
    for up in (False, True) if left else ():
        for port in left:
            cloud.network.update_port(port.id, is_admin_state_up=up)
        time.sleep(AGENT_LOOK_S)
    seed.until(lambda: not silent(), "an answer of the routers outside")


def _build_guest(state: State) -> None:
    """The image of its guests, unless it is there."""
    with (state.logs / "guest.log").open("wb") as log:
        done = subprocess.run([HERE / "guest/build.sh", state.guest], stdout=log, stderr=log, check=False)
    if done.returncode != 0:
        raise SystemExit(f"the guest could not be built; see {state.logs / 'guest.log'}")


def _start_switch(state: State, processes: Processes) -> None:
    place = state.run / "ovs"
    place.mkdir(parents=True, exist_ok=True)
    database, socket = place / "conf.db", place / "db.sock"
    env = {"OVS_RUNDIR": str(place), "OVS_DBDIR": str(place), "OVS_LOGDIR": str(state.logs)}
    if not database.exists():
        subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True, env={**os.environ, **env})
    remotes = [f"--remote=punix:{socket}", "--remote=db:Open_vSwitch,Open_vSwitch,manager_options"]
    processes.start("switch-database", ["ovsdb-server", database, *remotes, "--no-chdir"], env)
    control = ["ovs-vsctl", f"--db=unix:{socket}", "--timeout=10"]
    processes.until(lambda: _succeeds([*control, "--no-wait", "init"]), "the switch's database", "switch-database")
    processes.start("switch", ["ovs-vswitchd", f"unix:{socket}", "--no-chdir"], env)
    bridge = ["--may-exist", "add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]
    subprocess.run([*control, *bridge], check=True)
    processes.until(Path("/sys/class/net", BRIDGE).exists, f"bridge {BRIDGE}", "switch")
    length = seed.PUBLIC.rpartition("/")[2]
    subprocess.run(["ip", "addr", "replace", f"{seed.GATEWAY}/{length}", "dev", BRIDGE], check=True)
    subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)


def _succeeds(argv: list[str]) -> bool:
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def _start_libvirt(state: State, processes: Processes) -> str:
    """The URI of it."""
    _ensure_user("libvirt-qemu")
    for theirs, ours in PLACES.items():
        Path(theirs).mkdir(parents=True, exist_ok=True)
        (state.run / ours).mkdir(parents=True, exist_ok=True)
    (state.run / "libvirt").mkdir(exist_ok=True)
    known = words(state)
    render("qemu.conf", state.run / PLACES["/etc/libvirt"] / "qemu.conf", known)
    own = render("libvirtd.conf", state.etc / "libvirtd.conf", known)
    mounts = [f"mount --bind {state.run / ours} {theirs}" for theirs, ours in PLACES.items()]
    shim, tc = _shim(state), Path("/usr/sbin/tc").resolve()
    script = " && ".join([*mounts, f"mount --bind {shim} {tc}", 'exec "$@"'])
    argv: list[str | Path] = ["libvirtd", "-f", own, "-p", state.run / "libvirt/own.pid"]
    processes.start("libvirtd", ["unshare", "-m", "--propagation", "slave", "sh", "-c", script, "sh", *argv])
    uri = f"qemu+unix:///system?socket={state.run / 'libvirt/libvirt-sock'}"
    processes.until(lambda: _succeeds(["virsh", "-c", uri, "version"]), "libvirt", "libvirtd")
    return uri


def _ensure_user(name: str) -> None:
    """libvirtd wants the packaged user to exist, although QEMU runs as root here."""
    if not _succeeds(["getent", "group", name]):
        subprocess.run(["groupadd", "-r", name], check=True)
    if not _succeeds(["getent", "passwd", name]):
        subprocess.run(
            ["useradd", "-r", "-M", "-d", "/nonexistent", "-g", name, "-s", "/usr/sbin/nologin", name], check=True
        )


def _shim(state: State) -> Path:
    """The shim with the path of a copy of the real tc in it: libvirt tells its children nothing by the environment."""
    real = state.run / "bin/tc"
    real.parent.mkdir(exist_ok=True)
    shutil.copy2("/usr/sbin/tc", real)
    shim = state.run / "bin/tc-shim"
    shim.write_text((HERE / "inside/tc.in").read_text().replace("@TC@", str(real)))
    shim.chmod(0o755)
    return shim


def _start_agents(state: State, processes: Processes) -> None:
    own = render("agent.conf", state.etc / "neutron/agent.conf", {**words(state), "hypervisor": NAME})
    neutron: list[str | Path] = ["--config-file", state.etc / "neutron/neutron.conf"]
    server = [state.venv / "bin/neutron-rpc-server", *neutron, "--log-file", "neutron-rpc.log"]
    processes.start("neutron-rpc", server)
    queue = words(state)["queue"].replace("rabbit://", "amqp://") + "/"
    wait = [state.python, HERE / "inside/wait_for_consumers.py", queue, *QUEUES]
    subprocess.run([str(word) for word in wait], env=plane.environment(state), check=True)
    env = {"OVS_RUNDIR": str(state.run / "ovs")}
    for name, program in AGENTS.items():
        argv = [state.venv / f"bin/neutron-{program}", *neutron, "--config-file", own, "--log-file", f"{name}.log"]
        processes.start(name, argv, env)


def _upload(state: State, cloud: Connection) -> None:
    """The guest: kernel, initrd and disk."""
    if cloud.image.find_image(IMAGE) is None:
        common: dict[str, Any] = {"wait": True, "visibility": "public", "timeout": 300}
        kinds = {"vmlinuz": "aki", "initrd": "ari"}
        ids = {}
        for name, kind in kinds.items():
            file = str(state.guest / name)
            cloud.create_image(f"tiny-{name}", filename=file, disk_format=kind, container_format=kind, **common)
            ids[name] = cloud.image.find_image(f"tiny-{name}", ignore_missing=False).id
        cloud.create_image(
            IMAGE,
            filename=str(state.guest / "root.qcow2"),
            disk_format="qcow2",
            container_format="bare",
            kernel_id=ids["vmlinuz"],
            ramdisk_id=ids["initrd"],
            os_command_line="console=ttyS0 root=/dev/vda quiet",
            hw_cdrom_bus="scsi",
            hw_scsi_model="virtio-scsi",
            hw_rng_model="virtio",
            min_disk=1,
            img_config_drive="mandatory",  # there is no metadata service, and not everybody asks for one
            os_shutdown_timeout="3",
            **common,
        )
    if cloud.compute.find_flavor("real.tiny") is None:
        flavor = cloud.compute.create_flavor(name="real.tiny", vcpus=1, ram=256, disk=2)
        cloud.compute.create_flavor_extra_specs(flavor, {"hw_rng:allowed": "True"})


def end_guests(state: State) -> None:
    """End the guests' processes, which are no children of ours, by the records that libvirt keeps of them."""
    for record in (state.run / PLACES["/run/libvirt"] / "qemu").glob("*.pid"):
        _end(int(record.read_text() or 0), str(state.run))


def _end(pid: int, mark: str) -> None:
    """Kill a process if its command line says that it is the cloud's: a record may be older than what has its id."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        if mark.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def links_and_namespaces(state: State) -> tuple[list[str], list[str]]:
    """What Neutron made in the kernel: the ports of our switch, and the namespaces that lead to them."""
    if not (state.run / "ovs").exists():  # without a real hypervisor there is no switch, nor its programs perhaps
        return [], []
    control = ["ovs-vsctl", f"--db=unix:{state.run / 'ovs/db.sock'}", "--timeout=10"]
    bridges = _lines([*control, "list-br"])
    ports = [port for bridge in bridges for port in _lines([*control, "list-ports", bridge])]
    namespaces = [line.split()[0] for line in _lines(["ip", "netns", "list"])]
    own = [name for name in namespaces if name.startswith(NAMESPACES) and _has_one_of(name, ports)]
    return [*bridges, *ports, "ovs-netdev"] if bridges else [], own


def _has_one_of(namespace: str, ports: list[str]) -> bool:
    """Whether a network namespace holds a port of ours."""
    shown = _lines(["ip", "netns", "exec", namespace, "ip", "-br", "link"])
    return any(line.split()[0] in ports for line in shown if line)


def _lines(argv: list[str]) -> list[str]:
    """What a command says; nothing when it cannot be asked any more."""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def clear_away(state: State, links: list[str], namespaces: list[str]) -> None:
    """Remove them, with what runs in the namespaces."""
    for name in namespaces:
        for pid in _lines(["ip", "netns", "pids", name]):
            _end(int(pid), str(state.run))
        subprocess.run(["ip", "netns", "del", name], check=False)
    for link in links:
        subprocess.run(["ip", "link", "del", link], capture_output=True, check=False)
