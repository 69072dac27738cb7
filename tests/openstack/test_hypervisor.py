"""On the real hypervisor: what is closed is closed, promises bind, and an address moves from one node to the other."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.clients.openstack import Account
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Opening, Wiring
from pipeline.ports.common import Limits
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView
from pipeline.ports.transports import EnvironmentAccess, NodeAccess
from tests.openstack.cloud.hypervisor import NAME, ZONE
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CLOUD_LOOK_S, CloudUnderTest
from tests.tools.deployment import wait_for

#: Bits a second that the node may receive, and bytes that are sent to it: about ten seconds.
INWARDS = 8_000_000
SENT = 20_000_000
BOOT_S = 240.0
LIMITS = Limits(total_s=120, silence_s=120)
OPEN, CLOSED = 8080, 8081
NODES = ("web-0", "web-1")
SERVE = (
    f"cd /srv; hostname > name; for port in {OPEN} {CLOSED}; do"
    " nohup python3 -m http.server $port > /dev/null 2>&1 & done; sleep 4"
)
#: Far from where the cloud begins to give addresses of its network.
VIRTUAL = "10.20.255.201"
#: The only link of a node beside loopback gets it, or loses it.
MOVE = "ip address {} " + VIRTUAL + "/32 dev $(ls /sys/class/net | grep -v lo)"
#: Counts what arrives, and for how long.
RECEIVE = """\
import sys, time
began, received = time.monotonic(), 0
while some := sys.stdin.buffer.read(65536):
    received += len(some)
print(received, time.monotonic() - began)
"""

pytestmark = [pytest.mark.hypervisor, pytest.mark.timeout(400)]


@dataclass(frozen=True)
class Standing:
    """Two nodes that can be logged in to; the first has promises."""

    views: dict[str, NodeView]
    access: EnvironmentAccess
    transport: OpenSshTransport

    @property
    def first(self) -> NodeView:
        return self.views[NODES[0]]

    def run(self, command: str, stdin: bytes = b"", node: str = NODES[0]) -> str:
        said: list[bytes] = []
        with self.transport.connect(self.access) as connection:
            status = connection.run(node, command, limits=LIMITS, output=said.append, stdin=stdin)
        text = b"".join(said).decode(errors="replace")
        assert status == 0, text
        return text


@pytest.fixture(scope="module")
def standing(
    hypervisor: CloudUnderTest, node_keys: Keys, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Standing]:
    """One node with promises, made with the administrator's account, which may make flavors."""
    terms = Terms(
        hypervisor.network,
        hypervisor.external_network,
        floating=True,
        images={"tiny": hypervisor.real_image},
        create_flavors=True,
    )
    locks = tmp_path_factory.mktemp("locks")
    driver = OpenStackDriver("promises", Account(hypervisor.admin, str(hypervisor.clouds_file)), {}, terms, locks)
    promises = {NODES[0]: QosProfile(network_in=INWARDS, disk_write_iops=200, disk_read_bytes=10_000_000)}
    wiring = Wiring(openings=(Opening("tcp", OPEN, OPEN),), virtual_address=VIRTUAL)
    nodes = tuple(
        NodeRequest(
            name,
            "web",
            "tiny",
            Resources(vcpu=1, memory_mib=256, disk_gib=2),
            promises.get(name, QosProfile()),
            node_keys.host,
            node_keys.host_public,
            machine=NAME,
            zone=ZONE,
            wiring=wiring,
        )
        for name in NODES
    )
    ends_at = time.time() + 3600
    request = EnvironmentRequest("promises", "env-promises", "shop", node_keys.login_public, ends_at, nodes)
    transport = OpenSshTransport(str(tmp_path_factory.mktemp("ssh")))
    try:
        driver.create(request)
        views = wait_for(lambda: settled(driver), "the end of the builds", BOOT_S, CLOUD_LOOK_S)
        access = EnvironmentAccess("env-promises", node_keys.login, tuple(map(login_of(node_keys), views.values())))
        wait_for(lambda: not transport.probe(access, 5.0), "logins", BOOT_S, CLOUD_LOOK_S)
        yield Standing(views, access, transport)
    finally:
        transport.close_all()
        driver.destroy("env-promises")
        assert driver.list().environments == ()
        driver.close()


def settled(driver: OpenStackDriver) -> dict[str, NodeView] | None:
    """All nodes by name, once nothing is built any more."""
    views = {view.name: view for view in driver.nodes()}
    if any(view.status is NodeStatus.BUILDING for view in views.values()) or views.keys() != set(NODES):
        return None
    assert all(view.status is NodeStatus.ACTIVE for view in views.values()), views
    return views


def login_of(keys: Keys) -> Callable[[NodeView], NodeAccess]:
    def login(view: NodeView) -> NodeAccess:
        return NodeAccess(view.name, "web", view.address or "", 22, "root", keys.host_public, view.inside_address)

    return login


def reaches(address: str, port: int) -> bool:
    argv = ["curl", "--silent", "--output", "/dev/null", "--max-time", "5", f"http://{address}:{port}/"]
    return subprocess.run(argv, check=False).returncode == 0


@pytest.fixture(scope="module")
def serving(standing: Standing) -> Standing:
    """The same with a page on both ports of both nodes, which says whose it is."""
    for node in NODES:
        standing.run(SERVE, node=node)
    return standing


def test_a_closed_port_is_closed(serving: Standing) -> None:
    address = serving.first.address or ""
    wait_for(lambda: reaches(address, OPEN), "an answer of the open port")
    assert not reaches(address, CLOSED)
    assert "HTTP" in serving.run(f"curl -sI http://127.0.0.1:{CLOSED}/")


def test_what_comes_in_is_bounded(standing: Standing) -> None:
    said = standing.run(f"python3 -c {shlex.quote(RECEIVE)}", b"\0" * SENT)
    received, seconds = said.split()
    assert int(received) == SENT
    rate = 8 * SENT / float(seconds)
    assert 0.8 * INWARDS <= rate <= 1.2 * INWARDS, f"{rate:.0f} bit/s, promised {INWARDS}"


def test_disk_limits_stand_in_the_domain(standing: Standing, hypervisor: CloudUnderTest) -> None:
    socket = hypervisor.clouds_file.parent / "libvirt/libvirt-sock"
    uri = f"qemu+unix:///system?socket={socket}"
    argv = ["virsh", "-c", uri, "dumpxml", standing.first.driver_id]
    said = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    assert "<write_iops_sec>200</write_iops_sec>" in said
    assert "<read_bytes_sec>10000000</read_bytes_sec>" in said
    assert f"<inbound average='{INWARDS // 8000}'/>" in said


def test_a_virtual_address_moves_from_one_node_to_the_other(serving: Standing) -> None:
    """Whoever does not hold it asks who does."""
    ask = f"curl --silent --fail --max-time 20 http://{VIRTUAL}:{OPEN}/name"
    for holder, other in (NODES, NODES[::-1]):
        serving.run(MOVE.format("add"), node=holder)
        assert serving.run(ask, node=other) == serving.run("hostname", node=holder)
        serving.run(MOVE.format("delete"), node=holder)
