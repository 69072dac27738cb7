"""The local driver's promises, on real nodes: what a node is, what it may not do, and what is left after a crash."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local import cgroups
from pipeline.adapters.drivers.local.driver import LocalDriver
from pipeline.adapters.drivers.local.image import SHIFT
from pipeline.adapters.drivers.local.process import start_time
from pipeline.adapters.drivers.local.this_machine import Pose
from pipeline.domain.errors import CapacityError, PermanentError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import NodeStatus
from pipeline.ports.transports import EnvironmentAccess
from tests.plugins.local_nodes import (
    Helper,
    Keys,
    LocalNodes,
    answers,
    as_root,
    eventually,
    running_helper,
    why_not,
)

pytestmark = pytest.mark.local

SYSTEMD = "debian-12-systemd"
MIB = 1 << 20
#: Prints the arguments `address:port` that a connection can be made to.
CONNECT = """
import socket, sys, threading
def try_one(target):
    host, port = target.rsplit(":", 1)
    try: socket.create_connection((host, int(port)), 1.5).close()
    except OSError: return
    print(target, flush=True)
threads = [threading.Thread(target=try_one, args=(target,)) for target in sys.argv[1:]]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
BURN = """
import time
wall, cpu = time.monotonic(), time.process_time()
while time.monotonic() < wall + 1: pass
print((time.process_time() - cpu) / (time.monotonic() - wall))
"""
FORK = """
import os, signal, time
made = []
try:
    while len(made) < 2000:
        pid = os.fork()
        if not pid: time.sleep(60); os._exit(0)
        made.append(pid)
except OSError: pass
for pid in made: os.kill(pid, signal.SIGKILL)
print(len(made))
"""


def reachable(nodes: LocalNodes, access: EnvironmentAccess, *targets: str) -> set[str]:
    """Which of `address:port` the environment's first node can connect to."""
    status, output = nodes.run(access, access.nodes[0].name, f"python3 -c '{CONNECT}' {' '.join(targets)}")
    assert status == 0, output
    return set(output.split())


def test_a_node_is_a_server_of_its_own(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0", "db-0") as access:
        assert local_nodes.run(access, "web-0", "hostname")[1] == "web-0\n"
        assert local_nodes.run(access, "web-0", "cat /etc/hostname")[1] == "web-0\n"
        assert local_nodes.run(access, "web-0", "id -un")[1] == "root\n"
        assert access.node("db-0").address in local_nodes.run(access, "web-0", "getent hosts db-0")[1]
        assert reachable(local_nodes, access, "db-0:22", "localhost:22") == {"db-0:22", "localhost:22"}
        assert local_nodes.run(access, "web-0", "touch /srv/mine; ls /srv")[1] == "mine\n"
        assert local_nodes.run(access, "db-0", "ls /srv")[1] == ""


def test_a_node_has_the_host_key_it_was_given_and_no_other(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0") as access:
        argv = ["ssh-keyscan", "-T", "5", access.nodes[0].address]
        lines = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split("\n")
        keys = [line.split(" ", 1)[1] for line in lines if line and not line.startswith("#")]
        assert keys == [local_nodes.keys.host_public.rsplit(" ", 2)[0]]


def test_only_the_environments_key_logs_in(local_nodes: LocalNodes, tmp_path: Path) -> None:
    with local_nodes.environment("web-0") as access:
        stranger = EnvironmentAccess(access.environment_id, local_nodes.keys.host, access.nodes)
        status, output = local_nodes.run(stranger, "web-0", "true")
        assert status == 255
        assert "Permission denied (publickey)" in output


def test_sshd_may_be_restarted(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0") as access:
        assert local_nodes.run(access, "web-0", "/etc/init.d/ssh restart")[0] == 0
        eventually(lambda: answers(access.nodes[0].address), "sshd answers again")
        assert local_nodes.run(access, "web-0", "ps -o stat= ax | grep -c Z")[1] == "0\n"


def test_root_of_a_node_is_nobody_on_the_machine(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0") as access:
        assert local_nodes.run(access, "web-0", "cat /proc/self/uid_map")[1].split() == ["0", str(SHIFT), "65536"]
        for refused in (
            "mknod /srv/disk b 8 0",
            "echo 1 > /proc/sys/vm/drop_caches",
            "mount -o remount,rw /proc/sys",
            "mount -t tmpfs none /mnt",
            "echo b > /proc/sysrq-trigger",
            "ip netns add mine",
        ):
            assert local_nodes.run(access, "web-0", refused)[0] != 0, refused
        assert local_nodes.run(access, "web-0", "useradd -m joe && su joe -c id && sudo -n id -u")[0] == 0


def test_what_a_node_uses_is_measured_on_the_machine_that_it_was_put_on(local_nodes: LocalNodes) -> None:
    driver = LocalDriver(local_nodes.helper.socket_path, local_nodes.helper.deployment, Pose(zones=2))
    machines = driver.inventory().machines
    asked = local_nodes.request(("busy-0", "idle-0"))
    nodes = [replace(node, machine=one.name) for node, one in zip(asked.nodes, machines, strict=True)]
    try:
        driver.create(replace(asked, nodes=tuple(nodes)))
        access = local_nodes.access(asked)
        eventually(lambda: all(answers(node.address) for node in access.nodes), "sshd answers")
        eventually(lambda: bool(driver.loads(machines)), "the machine is measured")
        status, share = local_nodes.run(access, "busy-0", f"python3 -c '{BURN}'")
        assert status == 0, share
        busy, idle = (driver.loads(machines)[one.name].used["vcpu"] * one.capacity["vcpu"] for one in machines)
        assert busy - idle > float(share) / 4
    finally:
        driver.destroy(asked.environment_id)


def test_the_memory_limit_ends_the_process_that_takes_too_much(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0", resources=Resources(1, 96, 1)) as access:
        allocate = "python3 -c 'print(len(bytes(bytearray({}<<20))))'"
        assert local_nodes.run(access, "web-0", allocate.format(16))[0] == 0
        assert "137\n" in local_nodes.run(access, "web-0", allocate.format(200) + "; echo $?")[1]
        assert local_nodes.run(access, "web-0", "true")[0] == 0


def test_the_cpu_limit_binds(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0", resources=Resources(0.25, 128, 1)) as access:
        share = float(local_nodes.run(access, "web-0", f"python3 -c '{BURN}'")[1])
        assert 0 < share < 0.4


def test_the_number_of_processes_is_limited(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0", resources=Resources(1, 512, 1)) as access:
        made = int(local_nodes.run(access, "web-0", f"python3 -c '{FORK}'", 60)[1])
        assert 400 < made < 512
        assert local_nodes.run(access, "web-0", "true")[0] == 0


def rate_out(nodes: LocalNodes, access: EnvironmentAccess, size: int) -> float:
    """Bits a second from a node to the machine."""
    started = time.monotonic()
    status, output = nodes.run(access, "web-0", f"head -c {size} /dev/zero | tr '\\0' x", 60)
    assert (status, len(output)) == (0, size)
    return size * 8 / (time.monotonic() - started)


def rate_in(address: str, size: int) -> float:
    """Bits a second from the machine to port 9 of a node, which says when it has all."""
    with socket.create_connection((address, 9), 10) as connection:
        connection.settimeout(60)
        started = time.monotonic()
        connection.sendall(b"x" * size)
        assert connection.recv(1) == b"k"
        return size * 8 / (time.monotonic() - started)


SWALLOW = """
import socket, sys
server = socket.create_server(("", 9))
client = server.accept()[0]
left = int(sys.argv[1])
while left: left -= len(client.recv(65536))
client.sendall(b"k")
"""


def swallow(nodes: LocalNodes, access: EnvironmentAccess, size: int) -> float:
    command = f"setsid python3 -c '{SWALLOW}' {size} >/dev/null 2>&1 </dev/null & sleep 0.5"
    assert nodes.run(access, "web-0", command)[0] == 0
    return rate_in(access.nodes[0].address, size)


def test_network_limits_bind_in_both_directions(local_nodes: LocalNodes) -> None:
    limit, size = 8_000_000, 2 * MIB
    with local_nodes.environment("web-0", qos=QosProfile(network_in=limit, network_out=limit)) as access:
        assert limit / 4 < swallow(local_nodes, access, size) < 1.3 * limit
        assert limit / 4 < rate_out(local_nodes, access, size) < 1.3 * limit
    with local_nodes.environment("web-0") as access:
        assert swallow(local_nodes, access, size) > 2 * limit


def test_disk_limits_bind_and_do_not_slow_down_the_end(local_nodes: LocalNodes) -> None:
    if cgroups.device_of(local_nodes.helper.state) is None:
        pytest.skip(f"{local_nodes.helper.state} is not on a disk that can be throttled")
    write = "dd if=/dev/zero of=/srv/data bs=4k count=100 oflag=direct 2>&1"
    with local_nodes.environment("web-0", qos=QosProfile(disk_write_iops=50)) as access:
        started = time.monotonic()
        status, output = local_nodes.run(access, "web-0", write)
        assert status == 0, output
        assert 100 / (time.monotonic() - started) < 1.3 * 50
        fill = "dd if=/dev/zero of=/srv/dirty bs=1M count=32 2>&1"
        assert local_nodes.run(access, "web-0", fill)[0] == 0
    assert access.environment_id not in {e.environment_id for e in local_nodes.driver.list().environments}


@contextmanager
def listening(address: str) -> Iterator[int]:
    """A server of the machine; its port."""
    with socket.create_server((address, 0)) as server:
        yield server.getsockname()[1]


def machine_address() -> str | None:
    """The machine's own address towards others, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])
    return None


def test_a_node_reaches_its_environment_and_nothing_else(local_nodes: LocalNodes) -> None:
    with (
        local_nodes.environment("web-0", "web-1") as ours,
        local_nodes.environment("web-0") as theirs,
        listening("") as everywhere,
        listening("127.0.0.1") as loopback,
    ):
        gateway = ours.nodes[0].address.rpartition(".")[0] + ".1"
        their_gateway = theirs.nodes[0].address.rpartition(".")[0] + ".1"
        forbidden = [f"{theirs.nodes[0].address}:22"]
        for address in filter(None, (gateway, their_gateway, "127.0.0.1", machine_address())):
            forbidden += [f"{address}:{everywhere}", f"{address}:{loopback}"]
        friend = f"{ours.nodes[1].address}:22"
        assert reachable(local_nodes, ours, friend, *forbidden) == {friend}
        assert answers(theirs.nodes[0].address)


def test_a_node_that_takes_a_foreign_address_gets_no_further(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0") as ours, local_nodes.environment("web-0") as theirs:
        victim = theirs.nodes[0].address
        pose = victim.rpartition(".")[0] + ".99"
        take = f"ip addr add {pose}/24 dev eth0"
        assert local_nodes.run(ours, "web-0", take)[0] == 0
        assert reachable(local_nodes, ours, f"{victim}:22", f"{victim.rpartition('.')[0]}.1:22") == set()


def test_a_node_whose_first_process_ended_is_in_error(local_nodes: LocalNodes) -> None:
    with local_nodes.environment("web-0", "web-1") as access:
        local_nodes.run(access, "web-0", "kill 1")
        eventually(
            lambda: local_nodes.views(access.environment_id)["web-0"].status is NodeStatus.ERROR, "the node is listed"
        )
        views = local_nodes.views(access.environment_id)
        assert "first process ended" in views["web-0"].fault
        assert views["web-1"].status is NodeStatus.ACTIVE


def test_a_node_that_cannot_start_says_why(local_nodes: LocalNodes) -> None:
    request = local_nodes.request(["web-0"], resources=Resources(1, 16, 1))
    request = local_nodes.request(["web-0"], environment_id=request.environment_id)
    broken = local_nodes.keys.host.reveal().replace("b3BlbnNzaC1rZXktdjEA", "b3BlbnNzaC1rZXktdjEB")
    node = request.nodes[0]
    bad = type(node)(**{**vars(node), "host_key": type(node.host_key)(broken)})
    try:
        with suppress(TransientError):
            local_nodes.driver.create(type(request)(**{**vars(request), "nodes": (bad,)}))
        eventually(
            lambda: local_nodes.views(request.environment_id)["web-0"].status is NodeStatus.ERROR,
            "sshd refused the key",
        )
        assert "hostkeys" in local_nodes.views(request.environment_id)["web-0"].fault
    finally:
        local_nodes.driver.destroy(request.environment_id)


@pytest.fixture
def own_helper(node_keys: Keys) -> Iterator[LocalNodes]:
    """A helper that a test may kill."""
    if reason := why_not():
        pytest.skip(reason)
    with running_helper("--memory-mib", "2048") as helper:
        yield LocalNodes(helper, node_keys)


def test_nodes_outlive_their_helper(own_helper: LocalNodes) -> None:
    with own_helper.environment("web-0", "web-1") as access:
        before = own_helper.views(access.environment_id)
        own_helper.helper.kill()
        assert own_helper.run(access, "web-0", "hostname")[1] == "web-0\n"
        with pytest.raises(TransientError, match="greenroom up"):
            own_helper.driver.list()
        own_helper.helper.start()
        assert own_helper.views(access.environment_id) == before
        assert {view.status for view in before.values()} == {NodeStatus.ACTIVE}


def test_nodes_outlive_an_orderly_end_too(own_helper: LocalNodes) -> None:
    with own_helper.environment("web-0") as access:
        own_helper.helper.stop()
        assert not Path(own_helper.helper.socket_path).exists()
        own_helper.helper.start()
        assert own_helper.run(access, "web-0", "hostname")[1] == "web-0\n"


def test_a_second_helper_of_a_deployment_is_refused(own_helper: LocalNodes, tmp_path: Path) -> None:
    first = own_helper.helper
    argv = Helper(first.state, tmp_path, first.deployment).command()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "is running already" in done.stderr
    assert own_helper.driver.ping() > 0


def test_a_boot_is_held_down_until_the_node_answers(local_nodes: LocalNodes) -> None:
    request = local_nodes.request(["web-0"], resources=Resources(1, 256, 1))
    group = cgroups.group(request.deployment, request.environment_id, "web-0")
    seen: list[int] = []
    made = threading.Event()

    def watch() -> None:
        while not made.is_set():
            seen.extend(weight for weight in [weight_of(group)] if weight is not None)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        local_nodes.driver.create(request)
        assert answers(local_nodes.views(request.environment_id)["web-0"].address or "")
        made.set()
        watcher.join()
        usual = weight_of(group)
        assert usual is not None
        steps = [weight for before, weight in pairwise([0, *seen, usual]) if weight != before]
        assert steps == [usual, min(seen), usual], "made, held down while it boots, let go"
        assert min(seen) < usual / 10
    finally:
        made.set()
        watcher.join()
        local_nodes.driver.destroy(request.environment_id)


def weight_of(group: str) -> int | None:
    """What a node's group weighs on the processor now; None when there is no such group."""
    for place in cgroups.places(group):
        for name in ("cpu.shares", "cpu.weight"):
            with suppress(FileNotFoundError):
                return int((place / name).read_text())
    return None


def test_more_than_the_machine_was_told_to_promise_waits(own_helper: LocalNodes) -> None:
    half = Resources(0.5, 1024, 1)
    first, second = own_helper.request(["web-0"], resources=half), own_helper.request(["web-0"], resources=half)
    own_helper.driver.create(first)
    own_helper.driver.create(second)
    third = own_helper.request(["web-0"], resources=Resources(0.5, 64, 1))
    with pytest.raises(CapacityError, match="64 MiB asked for, 2048 of 2048"):
        own_helper.driver.create(third)
    own_helper.driver.destroy(first.environment_id)
    own_helper.driver.create(third)


def test_deployments_do_not_see_each_other(own_helper: LocalNodes, local_nodes: LocalNodes) -> None:
    with own_helper.environment("web-0") as ours, local_nodes.environment("web-0") as theirs:
        assert {e.environment_id for e in own_helper.driver.list().environments} == {ours.environment_id}
        own_helper.driver.destroy(theirs.environment_id)
        assert own_helper.driver.clean() == 1
        assert local_nodes.run(theirs, "web-0", "hostname")[1] == "web-0\n"


def test_a_wrong_deployment_is_refused(own_helper: LocalNodes) -> None:
    request = own_helper.request(["web-0"])
    with pytest.raises(PermanentError, match="serves deployment"):
        own_helper.driver.create(type(request)(**{**vars(request), "deployment": "another"}))


def ask(path: str, line: bytes) -> dict[str, object]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(path)
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        said: dict[str, object] = json.loads(connection.makefile("rb").readline())
        return said


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"not json\n",
        b'{"do": "list"',
        b"[" * 100_000 + b"\n",
        b'{"do": "shell", "command": "id"}\n',
        b'{"do": "list", "extra": 1}\n',
        b'{"do": "destroy", "environment_id": "../../etc", "nodes": null}\n',
        b'{"do": "destroy", "environment_id": "a", "nodes": ["/"]}\n',
        b'{"do": "build_image", "image": "debian-12 --hook"}\n',
        b'{"do": "create", "environment": {}}\n',
    ],
)
def test_a_bad_request_is_refused_and_harms_nobody(local_nodes: LocalNodes, line: bytes) -> None:
    assert ask(local_nodes.helper.socket_path, line)["error"] == "bad-request"
    assert local_nodes.driver.ping() > 0


def test_an_endless_request_is_cut_off(local_nodes: LocalNodes) -> None:
    with suppress(ConnectionError):  # the helper hangs up in the middle
        ask(local_nodes.helper.socket_path, b"x" * (5 * MIB))
    assert local_nodes.driver.ping() > 0


def test_an_image_without_a_recipe_cannot_be_built(local_nodes: LocalNodes) -> None:
    with pytest.raises(PermanentError, match="no recipe for image windows-95"):
        local_nodes.driver.build_image("windows-95", lambda _line: None)


def test_the_socket_serves_its_owner_alone(own_helper: LocalNodes) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can pose as another user")
    path = Path(own_helper.helper.socket_path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.parent.chmod(0o711)
    path.chmod(0o666)
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        "s.sendall(b'{}\\n'); print(s.recv(999))"
    )
    argv = ["setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", code, str(path)]
    said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=True, cwd="/").stdout
    assert "this socket serves user 0 alone" in said


def test_systemd_as_the_first_process(local_nodes: LocalNodes) -> None:
    if SYSTEMD not in local_nodes.driver.capabilities.images:
        pytest.skip(f"no image {SYSTEMD}: build it with python -m pipeline.adapters.drivers.local.image --systemd")
    with local_nodes.environment("web-0", image=SYSTEMD, resources=Resources(1, 256, 1)) as access:
        output = local_nodes.run(access, "web-0", "systemctl is-system-running --wait; systemctl --failed")[1]
        assert "running" in output.split(), output
        assert local_nodes.run(access, "web-0", "ps -o comm= 1")[1] == "systemd\n"
        unit = "systemd-run --unit=probe sleep 100 && systemctl is-active probe && systemctl stop probe"
        assert local_nodes.run(access, "web-0", unit)[0] == 0


def leftovers(helper: Helper, prefix: str) -> list[str]:
    """Whatever of a deployment can still be found on this machine."""
    deployment, group = helper.deployment, cgroups.parent(helper.deployment)
    found = [str(place) for place in cgroups.places(group)]
    found += [str(place) for place in Path("/run/netns").glob(f"greenroom.{deployment}.*")]
    found += [name for _, name in socket.if_nameindex() if name.startswith(prefix)]
    found += [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(helper.state) in line]
    claims = Path("/run/greenroom/subnets").iterdir()
    found += [str(claim) for claim in claims if str(claim.readlink()).startswith(f"{deployment}/")]
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"/{group}/" in (process / "cgroup").read_text() and start_time(int(process.name)):
                found.append(f"process {process.name}")
    records = [
        "find",
        str(helper.state / "deployments" / deployment),
        f"/run/greenroom/{deployment}/runc",
        "-mindepth",
        "1",
    ]
    found += subprocess.run(as_root(records), capture_output=True, text=True, check=False).stdout.split()
    return found


def prefix_of(helper: Helper) -> str:
    from hashlib import sha256

    return "gr" + sha256(helper.deployment.encode()).hexdigest()[:6]


@pytest.mark.parametrize("delay_ms", [0, 20, 40, 60, 80, 100, 120, 150, 180, 220, 260, 300])
def test_nothing_is_left_when_the_helper_is_killed_in_a_creation(own_helper: LocalNodes, delay_ms: int) -> None:
    request = own_helper.request(["web-0", "web-1", "db-0"], qos=QosProfile(network_in=10**8, network_out=10**8))

    def create() -> None:
        with suppress(TransientError):
            own_helper.driver.create(request)

    creation = threading.Thread(target=create)
    creation.start()
    time.sleep(delay_ms / 1000)
    own_helper.helper.kill()
    creation.join()
    own_helper.helper.start()
    own_helper.driver.destroy(request.environment_id)
    assert own_helper.driver.list() == type(own_helper.driver.list())()
    assert leftovers(own_helper.helper, prefix_of(own_helper.helper)) == []


@pytest.mark.parametrize("delay_ms", [0, 50, 100, 150])
def test_nothing_is_left_when_the_helper_is_killed_in_a_removal(own_helper: LocalNodes, delay_ms: int) -> None:
    request = own_helper.request(["web-0", "web-1", "db-0"])
    own_helper.driver.create(request)

    def destroy() -> None:
        with suppress(TransientError):
            own_helper.driver.destroy(request.environment_id)

    removal = threading.Thread(target=destroy)
    removal.start()
    time.sleep(delay_ms / 1000)
    own_helper.helper.kill()
    removal.join()
    own_helper.helper.start()
    own_helper.driver.clean()
    assert leftovers(own_helper.helper, prefix_of(own_helper.helper)) == []


@pytest.mark.parametrize("delay_ms", [30, 80, 130, 200])
def test_an_interrupted_creation_is_finished_by_the_next_call(own_helper: LocalNodes, delay_ms: int) -> None:
    request = own_helper.request(["web-0", "web-1"])

    def create() -> None:
        with suppress(TransientError):
            own_helper.driver.create(request)

    creation = threading.Thread(target=create)
    creation.start()
    time.sleep(delay_ms / 1000)
    own_helper.helper.kill()
    creation.join()
    own_helper.helper.start()
    own_helper.driver.create(request)
    access = own_helper.access(request)
    for node in access.nodes:
        eventually(partial(answers, node.address), "sshd answers")
    assert own_helper.run(access, "web-1", "hostname")[1] == "web-1\n"
