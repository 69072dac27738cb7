"""What changes under a driver that goes on: accounts that end, images that are replaced; and accounts of projects."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark, marks
from pipeline.domain.errors import PermanentError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

if TYPE_CHECKING:
    from openstack.connection import Connection

OURS, FAR = Mark("changes", "env-changes"), Mark("changes", "env-changes-far")
#: An image, and a network in each project.
NAME = "changes"

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(180)]


@pytest.fixture
def hands(test_cloud: CloudUnderTest) -> Iterator[Mapping[str, Connection]]:
    """Connections of two accounts, by their entries; each project has a network of that name."""
    names = (test_cloud.ours, test_cloud.neighbour)
    hands = {name: connection_of(test_cloud, name) for name in names}
    made = {name: hand.network.create_network(name=NAME) for name, hand in hands.items()}
    for name, network in made.items():
        hands[name].network.create_subnet(network_id=network.id, ip_version=4, cidr="10.78.0.0/24", gateway_ip=None)
    yield hands
    for name, hand in hands.items():
        hand.network.delete_network(made[name])
        hand.close()


def driver_of(cloud: CloudUnderTest, file: Path, locks: Path) -> OpenStackDriver:
    """Project `far` has an account of its own."""
    ours, far = (Account(name, str(file)) for name in (cloud.ours, cloud.neighbour))
    return OpenStackDriver(OURS.deployment, ours, {"far": far}, Terms(NAME, images={"plain": NAME}, login=False), locks)


@pytest.fixture
def driver(test_cloud: CloudUnderTest, hands: Mapping[str, Connection], tmp_path: Path) -> Iterator[OpenStackDriver]:
    driver = driver_of(test_cloud, test_cloud.clouds_file, tmp_path)
    with closing(driver):
        yield driver
        for mark in (OURS, FAR):
            driver.destroy(mark.environment_id)
        assert driver.list().environments == ()
    assert hands


def request_of(keys: Keys, *names: str) -> EnvironmentRequest:
    size = Resources(1, 64, 1)
    nodes = (NodeRequest(name, "web", "plain", size, QosProfile(), keys.host, keys.host_public) for name in names)
    ends_at = time.time() + 3600
    return EnvironmentRequest(OURS.deployment, OURS.environment_id, "shop", keys.login_public, ends_at, tuple(nodes))


def image_of(hand: Connection) -> str:
    made = hand.create_image(NAME, data=b"\0" * 1024, disk_format="raw", container_format="bare", wait=True)
    assert made is not None
    return str(made.id)


def test_an_image_that_was_replaced_under_its_name_is_found_at_once(
    test_cloud: CloudUnderTest, driver: OpenStackDriver, hands: Mapping[str, Connection], node_keys: Keys
) -> None:
    hand = hands[test_cloud.ours]
    image = image_of(hand)
    try:
        driver.create(request_of(node_keys, "web-0"))
        hand.image.delete_image(image)
        image = image_of(hand)
        driver.create(request_of(node_keys, "web-0", "web-1"))
        used = {one.name: one.image.id for one in hand.compute.servers() if marks.marked(one.metadata) == OURS}
        assert used.keys() == {"web-0", "web-1"}
        assert used["web-1"] == image
    finally:
        hand.image.delete_image(image)


def test_servers_of_a_project_are_in_its_own_account_and_go_without_it_where_it_is_another(
    test_cloud: CloudUnderTest,
    driver: OpenStackDriver,
    hands: Mapping[str, Connection],
    node_keys: Keys,
    tmp_path: Path,
) -> None:
    images = {name: image_of(hand) for name, hand in hands.items()}
    ours = request_of(node_keys, "web-0", "web-1")
    far = replace(request_of(node_keys, "web-0"), environment_id=FAR.environment_id, project="far")
    ended = tmp_path / "clouds.yaml"
    ended.write_text(test_cloud.clouds_file.read_text().replace("username: neighbour", "username: nobody"))
    try:
        for request in (ours, far):
            driver.create(request)
        found = [marks.marked(one.metadata) for one in hands[test_cloud.neighbour].compute.servers()]
        assert [mark for mark in found if mark and mark.deployment == OURS.deployment] == [FAR]
        assert sorted(view.environment_id for view in driver.nodes()) == [
            OURS.environment_id,
            OURS.environment_id,
            FAR.environment_id,
        ]
        with closing(driver_of(test_cloud, ended, tmp_path)) as other:
            other.destroy(OURS.environment_id, ["web-1"])
            assert {(view.environment_id, view.name) for view in driver.nodes()} == {
                (OURS.environment_id, "web-0"),
                (FAR.environment_id, "web-0"),
            }
            other.destroy(OURS.environment_id)
            with pytest.raises(PermanentError, match=f"logging in as cloud {test_cloud.neighbour}"):
                other.destroy(FAR.environment_id)
        assert [one.environment_id for one in driver.list().environments] == [FAR.environment_id]
    finally:
        for name, image in images.items():
            hands[name].image.delete_image(image)
