"""On the real hypervisor: what was on a disk is there on a node that is made of its snapshot, and old keys are not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.snapshots import OpenStackSnapshots
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.keys import SshKeys
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.clients.openstack import Account
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.snapshots import Snapshot, SnapshotState
from pipeline.ports.common import Limits
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView
from pipeline.ports.transports import EnvironmentAccess, NodeAccess
from tests.openstack.cloud.hypervisor import NAME, ZONE
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest
from tests.tools.deployment import wait_for

pytestmark = [pytest.mark.hypervisor, pytest.mark.timeout(400)]

OURS = "disks"
BOOT_S, SAVE_S = 180.0, 120.0
LIMITS = Limits(total_s=60, silence_s=60)


@dataclass
class Place:
    """A deployment whose nodes stand on the real hypervisor."""

    driver: OpenStackDriver
    keeper: OpenStackSnapshots
    transport: OpenSshTransport
    keys: Keys
    made: list[str] = field(default_factory=list)

    def stands(self, environment_id: str, image: str, login: str) -> NodeView:
        """One node of an image, that lets in who has the private key of `login`."""
        size = Resources(vcpu=1, memory_mib=256, disk_gib=2)
        keys = self.keys
        node = NodeRequest("web-0", "web", image, size, QosProfile(), keys.host, keys.host_public, NAME, ZONE)
        self.made.append(environment_id)
        wish = EnvironmentRequest(OURS, environment_id, "shop", login, time.time() + 3600, (node,), project="shop")
        self.driver.create(wish)
        return wait_for(lambda: self._built(environment_id), f"the node of {environment_id}", BOOT_S)

    def _built(self, environment_id: str) -> NodeView | None:
        [view] = [one for one in self.driver.nodes() if one.environment_id == environment_id]
        assert view.status is not NodeStatus.ERROR, view
        return view if view.status is NodeStatus.ACTIVE else None

    def access(self, view: NodeView, keys: Keys) -> EnvironmentAccess:
        node = NodeAccess("web-0", "web", view.address or "", 22, "root", keys.host_public)
        return EnvironmentAccess(view.environment_id, keys.login, (node,))

    def run(self, access: EnvironmentAccess, command: str) -> str:
        said: list[bytes] = []
        wait_for(lambda: not self.transport.probe(access, 5.0), "a login", BOOT_S)
        with self.transport.connect(access) as connection:
            status = connection.run("web-0", command, limits=LIMITS, output=said.append)
        text = b"".join(said).decode(errors="replace")
        assert status == 0, text
        return text


@pytest.fixture
def place(hypervisor: CloudUnderTest, node_keys: Keys, tmp_path: Path) -> Iterator[Place]:
    account = Account(hypervisor.admin, str(hypervisor.clouds_file))
    terms = Terms(
        hypervisor.network,
        hypervisor.external_network,
        floating=True,
        images={"tiny": hypervisor.real_image},
        choose_machine=True,
    )
    driver, keeper = (
        OpenStackDriver(OURS, account, {}, terms, tmp_path / "locks"),
        OpenStackSnapshots(OURS, account, {}, terms),
    )
    transport = OpenSshTransport(str(tmp_path / "ssh"))
    with closing(driver), closing(keeper):
        made = Place(driver, keeper, transport, node_keys)
        try:
            yield made
        finally:
            transport.close_all()
            for environment_id in made.made:
                driver.destroy(environment_id)
            for one in keeper.all():
                keeper.remove(one)


def test_a_node_of_a_snapshot_has_what_was_on_the_disk_and_lets_in_the_new_key_alone(place: Place) -> None:
    first = place.stands("env-first", "tiny", place.keys.login_public)
    place.run(place.access(first, place.keys), "echo seeded > /srv/data; sync")
    taken = place.keeper.take(Snapshot("seeded", "shop", "env-first", "web-0"))
    wait_for(lambda: place.keeper.all()[0].state is SnapshotState.READY, "the snapshot", SAVE_S)
    place.driver.destroy("env-first")

    private, public = SshKeys().ed25519("another requester")
    second = place.stands("env-second", taken.image, public)
    new = EnvironmentAccess("env-second", private, place.access(second, place.keys).nodes)
    assert place.run(new, "cat /srv/data") == "seeded\n"
    assert place.transport.probe(place.access(second, place.keys), 5.0), "the old key gets in"
    assert [second.driver_id in user for user in place.keeper.users(taken)] == [True]
    place.driver.destroy("env-second")
    assert list(place.keeper.users(taken)) == []
