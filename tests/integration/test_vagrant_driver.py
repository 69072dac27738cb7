"""Nodes of vagrant-lxc when things go wrong: time limits, kills, machines and files that vanish, and strangers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.adapters.drivers.vagrant.lxc.limits import limits
from pipeline.adapters.drivers.vagrant.lxc.provider import CONTAINERS
from pipeline.adapters.drivers.vagrant.terms import Image
from pipeline.domain.errors import TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, Listing, NodeRequest, NodeStatus, OwnedEnvironment
from tests.plugins.local_nodes import IMAGE, ROOT, Keys, eventually
from tests.plugins.vagrant_nodes import VagrantNodes

ENDS_AT = 2_000_000_000.0
PATIENCE_S = 60.0
TINY = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)

pytestmark = [pytest.mark.vagrant, pytest.mark.timeout(240)]


@pytest.fixture
def driver(vagrant_nodes: VagrantNodes) -> Iterator[VagrantDriver]:
    made = vagrant_nodes.driver()
    yield made
    for one in made.list().environments:
        made.destroy(one.environment_id)
    assert vagrant_nodes.traces() == []


def request(nodes: VagrantNodes, keys: Keys, *names: str, owner: str = "run-1") -> EnvironmentRequest:
    wanted = tuple(NodeRequest(name, "web", IMAGE, TINY, QosProfile(), keys.host, keys.host_public) for name in names)
    return EnvironmentRequest(nodes.deployment, "env-1", "shop", keys.login_public, ENDS_AT, wanted, owner=owner)


def place(nodes: VagrantNodes) -> Path:
    return nodes.home / "home/environments/env-1"


def working_in(directory: Path) -> dict[int, str]:
    """Processes that work in a directory, and their command lines."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == directory:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return {pid: command for pid, command in found.items() if command}


def vagrants(nodes: VagrantNodes) -> list[int]:
    """Vagrant itself, which is a Ruby program."""
    return [pid for pid, command in working_in(place(nodes)).items() if "ruby" in command]


def heard(nodes: VagrantNodes, owner: str) -> str:
    file = nodes.home / f"heard-{owner}"
    return file.read_text() if file.exists() else ""


def inside(nodes: VagrantNodes, node: str, *command: str) -> subprocess.CompletedProcess[str]:
    name = f"greenroom.{nodes.deployment}.env-1.{node}"
    argv = ["lxc-attach", "--name", name, "--", *command]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def active(driver: VagrantDriver) -> list[str]:
    return sorted(view.name for view in driver.nodes() if view.status is NodeStatus.ACTIVE)


def test_two_machines_come_up_at_once_and_are_heard(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0", "web-1", owner="run-two"))
    said = heard(vagrant_nodes, "run-two")
    first_ready = said.index("Machine booted")
    assert all(0 <= said.index(f"{name}: Starting container") < first_ready for name in ("web-0", "web-1"))


def test_nodes_are_seen_as_building_before_there_is_anything_of_them(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    """Nobody else must begin to make them meanwhile; when their maker was killed, somebody must."""
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(driver.create, request(vagrant_nodes, node_keys, "web-0"))
        eventually(lambda: bool(driver.nodes()), "a node that is being made")
        assert [(view.name, view.status, view.driver_id) for view in driver.nodes()] == [
            ("web-0", NodeStatus.BUILDING, "")
        ]
        making.result()
    assert active(driver) == ["web-0"]


def test_a_node_is_what_was_asked_for(driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0", "web-1"))
    assert inside(vagrant_nodes, "web-0", "hostname").stdout.strip() == "web-0"
    address = {view.name: view.address for view in driver.nodes()}
    assert f"{address['web-1']} web-1" in inside(vagrant_nodes, "web-0", "cat", "/etc/hosts").stdout
    scanned = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", str(address["web-1"])], capture_output=True, text=True, timeout=30, check=True
    )
    assert node_keys.host_public.split()[1] in scanned.stdout
    uid_map = inside(vagrant_nodes, "web-0", "cat", "/proc/self/uid_map").stdout.split()
    assert int(uid_map[1]) > 0, "root of a node is nobody on the machine"
    key, bound = limits(TINY)[0]
    container = f"greenroom.{vagrant_nodes.deployment}.env-1.web-0"
    argv = ["lxc-cgroup", "--name", container, key.partition(".")[2]]
    assert subprocess.run(argv, capture_output=True, text=True, timeout=30, check=True).stdout.strip() == bound


def test_nodes_reach_each_other_and_not_the_machine(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0", "web-1"))
    neighbour = str(next(view.address for view in driver.nodes() if view.name == "web-1"))
    machine = neighbour.rpartition(".")[0] + ".1"
    with socket.create_server((machine, 0)) as server:
        port = server.getsockname()[1]
        assert _connects(vagrant_nodes, neighbour, 22)
        assert not _connects(vagrant_nodes, machine, port)
        with socket.create_connection((machine, port), timeout=5):
            pass


def _connects(nodes: VagrantNodes, address: str, port: int) -> bool:
    code = f"import socket; socket.create_connection(({address!r}, {port}), timeout=3)"
    return inside(nodes, "web-0", "python3", "-c", code).returncode == 0


def test_a_call_that_takes_too_long_is_ended(
    vagrant_nodes: VagrantNodes, node_keys: Keys, driver: VagrantDriver
) -> None:
    hasty = vagrant_nodes.driver(up_s=0.5)
    wanted = request(vagrant_nodes, node_keys, "web-0", "web-1")
    with pytest.raises(TransientError, match=r"took longer than 0\.5 s"):
        hasty.create(wanted)
    assert working_in(place(vagrant_nodes)) == {}
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]


def test_a_destroy_that_takes_too_long_is_finished_without_vagrant(
    vagrant_nodes: VagrantNodes, node_keys: Keys, driver: VagrantDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0"))
    vagrant_nodes.driver(destroy_s=0.2).destroy("env-1")
    assert "removed without vagrant" in caplog.text
    assert driver.list() == Listing()
    assert vagrant_nodes.traces() == []


def test_vagrant_killed_in_midway_is_recovered(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    wanted = request(vagrant_nodes, node_keys, "web-0", "web-1", owner="run-killed")
    with ThreadPoolExecutor(1) as pool:
        making = pool.submit(driver.create, wanted)
        eventually(lambda: any(view.driver_id for view in driver.nodes()), "a container begins to be", PATIENCE_S)
        eventually(lambda: bool(vagrants(vagrant_nodes)), "vagrant runs", PATIENCE_S)
        for pid in vagrants(vagrant_nodes):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(TransientError, match=r"vagrant up in .* failed with status 137"):
            making.result(PATIENCE_S)
    assert working_in(place(vagrant_nodes)) == {}
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]


def test_what_a_killed_worker_left_running_is_ended(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys, tmp_path: Path
) -> None:
    wanted = request(vagrant_nodes, node_keys, "web-0", "web-1")
    said = {"home": str(vagrant_nodes.home), "deployment": vagrant_nodes.deployment, "public": node_keys.host_public,
            "host": node_keys.host.reveal(), "login": node_keys.login_public}  # fmt: skip
    argv = [sys.executable, "-m", "tests.tools.doomed_vagrant"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, cwd=ROOT, text=True) as worker:
        assert worker.stdin is not None
        worker.stdin.write(json.dumps(said))
        worker.stdin.close()
        eventually(lambda: any(view.driver_id for view in driver.nodes()), "a container begins to be", PATIENCE_S)
        worker.kill()
    left = vagrants(vagrant_nodes)
    assert left
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]
    assert not set(left) & set(working_in(place(vagrant_nodes)))


def test_a_node_that_was_removed_behind_its_back_is_made_again(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    wanted = request(vagrant_nodes, node_keys, "web-0", "web-1")
    driver.create(wanted)
    gone = f"greenroom.{vagrant_nodes.deployment}.env-1.web-1"
    subprocess.run(["lxc-destroy", "--force", "--name", gone], check=True, timeout=60, capture_output=True)
    assert active(driver) == ["web-0"]
    driver.create(wanted)
    assert active(driver) == ["web-0", "web-1"]


def test_a_node_that_was_stopped_stays_when_others_are_added(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0"))
    name = f"greenroom.{vagrant_nodes.deployment}.env-1.web-0"
    subprocess.run(["lxc-stop", "--kill", "--name", name], check=True, timeout=60, capture_output=True)
    driver.create(request(vagrant_nodes, node_keys, "web-1"))
    assert {view.name: view.status for view in driver.nodes()} == {
        "web-0": NodeStatus.ERROR,
        "web-1": NodeStatus.ACTIVE,
    }
    assert len({view.address for view in driver.nodes()}) == 2


def test_a_node_that_was_stopped_says_so(driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0"))
    name = f"greenroom.{vagrant_nodes.deployment}.env-1.web-0"
    subprocess.run(["lxc-stop", "--kill", "--name", name], check=True, timeout=60, capture_output=True)
    (view,) = driver.nodes()
    assert view.status is NodeStatus.ERROR
    assert "does not run" in view.fault
    driver.destroy("env-1")
    assert driver.list() == Listing()


def test_what_is_there_is_found_and_removed_without_any_file_of_ours(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys, caplog: pytest.LogCaptureFixture
) -> None:
    driver.create(request(vagrant_nodes, node_keys, "web-0"))
    shutil.rmtree(vagrant_nodes.home / "home")
    assert driver.list().environments == (OwnedEnvironment("env-1", ENDS_AT),)
    assert active(driver) == ["web-0"]
    driver.destroy("env-1")
    assert driver.list() == Listing()
    assert "removed without vagrant" not in caplog.text


def test_a_container_that_does_not_start_says_why(
    driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys
) -> None:
    nowhere = vagrant_nodes.driver(images=lambda: {IMAGE: Image(Path("/nowhere"), 1 << 30)})
    with pytest.raises(TransientError, match=r"(?s)lxc-start.*web-0: .*/nowhere"):
        nowhere.create(request(vagrant_nodes, node_keys, "web-0"))
    (view,) = driver.nodes()
    assert view.status is NodeStatus.ERROR
    assert "/nowhere" in view.fault


def test_a_strangers_container_stays(driver: VagrantDriver, vagrant_nodes: VagrantNodes, node_keys: Keys) -> None:
    strangers = CONTAINERS / f"web-0.of-somebody-{vagrant_nodes.deployment}"
    strangers.mkdir()
    (strangers / "config").write_text("lxc.uts.name = web-0\n")
    try:
        driver.create(request(vagrant_nodes, node_keys, "web-0"))
        driver.clean()
        assert driver.list() == Listing()
        assert (strangers / "config").exists()
    finally:
        shutil.rmtree(strangers)


def test_a_container_that_was_never_finished_goes(driver: VagrantDriver, vagrant_nodes: VagrantNodes) -> None:
    half = CONTAINERS / f"greenroom.{vagrant_nodes.deployment}.env-1.web-0"
    (half / "rootfs").mkdir(parents=True)
    (view,) = driver.nodes()
    assert view.status is NodeStatus.ERROR
    driver.destroy("env-1")
    assert not half.exists()
