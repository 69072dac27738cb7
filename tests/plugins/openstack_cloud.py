"""The test cloud, for tests that need an OpenStack: what `make openstack-up` started; skipped where there is none."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.clients.openstack import Account, connect, hosted, told

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Names another cloud that has the same projects, networks and images.
VARIABLE = "GREENROOM_OPENSTACK_CLOUDS"
#: Files of tests with the cloud that are begun first, so that nobody waits for one of them alone at the end. A worker
#: takes its next file when its last but one test is under way: short ones follow those that have one long test.
FIRST = (
    "test_whole_runs.py",
    "test_whole_deliveries.py",
    "test_kills.py",
    "test_drivers.py",
    "test_removal.py",
    "test_leftovers.py",
)
#: How often tests look at nodes: a list costs the cloud half a second of its processor's time.
CLOUD_LOOK_S = 1.0
#: Where Nova lists servers.
SERVER_LIST = "/servers/detail"
#: Stands beside the entries where a real hypervisor does.
HYPERVISOR = "real-1"


@dataclass(frozen=True)
class CloudUnderTest:
    """Entries of `clouds_file`, and what there is by name. `real_image` boots where the real hypervisor is."""

    clouds_file: Path
    ours: str = "greenroom"
    neighbour: str = "neighbour"
    admin: str = "admin"
    network: str = "greenroom-net"
    neighbour_network: str = "neighbour-net"
    external_network: str = "public"
    image: str = "dummy"
    real_image: str = "tiny-debian"


def clouds_file() -> Path:
    """Where the entries of the standing cloud are written."""
    state = Path(os.environ.get("GREENROOM_OPENSTACK_STATE") or Path.home() / ".cache/greenroom-openstack")
    return Path(os.environ.get(VARIABLE) or state / "run/clouds.yaml")


def connection_of(cloud: CloudUnderTest, name: str) -> Connection:
    """A connection by an entry of the cloud's file; whoever asks for it closes it."""
    return connect(Account(name, str(cloud.clouds_file)))


def hosts_of(connection: Connection, deployment: str) -> list[str]:
    """Ids of the floating addresses of a deployment's router."""
    held = list(connection.network.ips(project_id=connection.current_project_id))
    return [one.id for one in held if (mark := hosted(one.description)) and mark.deployment == deployment]


def release_hosts(connection: Connection, deployment: str) -> None:
    """Give back the floating addresses of a deployment's router."""
    for id in hosts_of(connection, deployment):
        connection.network.delete_ip(id)


@contextmanager
def reached_inside(cloud: CloudUnderTest) -> Iterator[None]:
    """The way from this machine to the fixed addresses of the project, as Greenroom has it where nodes have no address
    outside: by the router's own one. Each process has a way of its own, and removes no other's.
    """
    with closing(connection_of(cloud, cloud.ours)) as connection:
        router = connection.network.find_router(f"{cloud.ours}-router", ignore_missing=False)
        inside = connection.network.find_subnet(cloud.network, ignore_missing=False).cidr
    outside = router.external_gateway_info["external_fixed_ips"][0]["ip_address"]
    way = [inside, "via", outside, "metric", str(os.getpid())]
    subprocess.run(["ip", "route", "add", *way], check=True)
    try:
        yield
    finally:
        subprocess.run(["ip", "route", "del", *way], check=True)


@pytest.fixture(scope="session")
def test_cloud() -> CloudUnderTest:
    """A standing test cloud; one that has entries and does not answer is an error, not a reason to skip."""
    file = clouds_file()
    if not file.exists():
        pytest.skip("there is no test cloud: `make openstack-up` starts one")
    cloud = CloudUnderTest(file)
    with closing(connection_of(cloud, cloud.ours)) as connection, told(f"the test cloud of {file}"):
        connection.authorize()
    return cloud


@pytest.fixture(scope="session")
def hypervisor(test_cloud: CloudUnderTest) -> CloudUnderTest:
    """The same with a real hypervisor in it."""
    if not (test_cloud.clouds_file.parent / HYPERVISOR).exists():
        pytest.skip("the test cloud has no real hypervisor: `make openstack-up REAL=1` starts one")
    return test_cloud


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest come first; and what openstacksdk deprecates in itself is nothing that a test of ours can change."""
    items.sort(key=_turn)
    for item in items:
        if _needs_cloud(item):
            for name in ("_RemovedInSDKWarning", "OpenStackDeprecationWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::openstack.warnings.{name}"))


def _turn(item: pytest.Item) -> int:
    """When its file is begun, among those of other turns."""
    early = _needs_cloud(item) and item.path.name in FIRST
    return FIRST.index(item.path.name) if early else len(FIRST)


def _needs_cloud(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("openstack", "hypervisor"))
