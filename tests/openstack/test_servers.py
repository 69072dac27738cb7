"""Servers of the test cloud against the books, after somebody worked by hand; its machines as an inventory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from openstack.compute.v2.server import Server
from openstack.connection import Connection

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.clouds.openstack import OpenStackCloud
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Account, marks
from pipeline.domain.blueprint import Priority
from pipeline.domain.drift import Drift, Row
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState
from pipeline.domain.inventory import Zone
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.envs.surveys import Surveys
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

DEPLOYMENT, ENVIRONMENT = "byhand", "env-by-hand"
NAMES = ("web-0", "web-1")
PATIENCE_S = 60.0
SIZE = Resources(1, 64, 1)

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(240)]


@pytest.fixture
def driver(test_cloud: CloudUnderTest, tmp_path: Path) -> Iterator[OpenStackDriver]:
    account = Account(test_cloud.ours, str(test_cloud.clouds_file))
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    made = OpenStackDriver(DEPLOYMENT, account, {}, terms, tmp_path)
    yield made
    made.destroy(ENVIRONMENT)
    made.close()


@pytest.fixture
def cloud(test_cloud: CloudUnderTest) -> Iterator[OpenStackCloud]:
    own, admin = (Account(name, str(test_cloud.clouds_file)) for name in (test_cloud.ours, test_cloud.admin))
    made = OpenStackCloud([own], admin)
    yield made
    made.close()


def delivered(driver: OpenStackDriver, keys: Keys) -> list[NodeView]:
    """Two nodes in zone rack-A-1, when both are active."""
    nodes = tuple(
        NodeRequest(name, "web", "plain", SIZE, QosProfile(), keys.host, keys.host_public, zone="rack-A-1")
        for name in NAMES
    )
    driver.create(EnvironmentRequest(DEPLOYMENT, ENVIRONMENT, "shop", keys.login_public, time.time() + 3600, nodes))
    deadline = time.monotonic() + PATIENCE_S
    found = driver.nodes()
    while any(view.status is NodeStatus.BUILDING for view in found):
        assert time.monotonic() < deadline
        time.sleep(0.5)
        found = driver.nodes()
    assert [view.status for view in found] == [NodeStatus.ACTIVE] * 2
    return list(found)


def written(books: Books, views: list[NodeView]) -> None:
    """The environment as the books know it once it is leased."""
    nodes = tuple(
        Node(
            view.name, "web", "plain", SIZE, state=NodeState.ACTIVE, driver_id=view.driver_id, zone="rack-A-1",
            machine="fake-1", address=view.address,
        )
        for view in views
    )  # fmt: skip
    made = Environment(
        ENVIRONMENT, "team", "shop", "run-1", "cloud", EnvironmentState.LEASED, nodes, Priority.PUSH, 0.0, 0.0, 2e9
    )
    books.commit(books.environments.kind.put(ENVIRONMENT, made, 0))


@pytest.fixture
def surveys(driver: OpenStackDriver, cloud: OpenStackCloud, node_keys: Keys) -> Surveys:
    clock = SystemClock()
    books = Books(MemoryStore(clock))
    written(books, delivered(driver, node_keys))
    provider = Provider("cloud", driver, MemoryTransport(clock), cloud=cloud)
    inventories = Inventories(books, clock, Gate(books, clock))
    return Surveys(books, lambda _: provider, inventories, clock, DEPLOYMENT, lambda _: None)


def rows_of(surveys: Surveys) -> tuple[Row, ...]:
    """What a new survey says; others may have servers of the same names."""
    surveys.survey("cloud", takes_over=True)
    survey = surveys.last("cloud")
    assert survey is not None
    return survey.rows


def of_node(rows: tuple[Row, ...], name: str) -> Row:
    """The row of a node of ours."""
    (row,) = [one for one in rows if one.environment == ENVIRONMENT and one.node and one.node.name == name]
    return row


def of_server(rows: tuple[Row, ...], id: str) -> Row:
    (row,) = [one for one in rows if one.server and one.server.id == id]
    return row


@contextmanager
def made_by_hand(hand: Connection, cloud: CloudUnderTest) -> Iterator[tuple[str, str]]:
    """The ids of a server without a mark, and of one with ours."""
    ours = {marks.DEPLOYMENT: DEPLOYMENT, marks.ENVIRONMENT: "env-nobody", marks.NODE: "web-0"}
    made: list[Server] = []
    try:
        made.append(_made(hand, cloud, "sync-by-hand", {}))
        made.append(_made(hand, cloud, "sync-marked", ours))
        yield made[0].id, made[1].id
    finally:
        for server in made:
            hand.compute.delete_server(server)
        for server in made:
            hand.compute.wait_for_delete(server, wait=PATIENCE_S)


def test_a_server_deleted_and_others_made_by_hand_are_shown(test_cloud: CloudUnderTest, surveys: Surveys) -> None:
    before = rows_of(surveys)
    found = {alert.drift for name in NAMES for alert in of_node(before, name).alerts}
    assert found <= {Drift.MACHINE}  # the driver was let choose only the zone
    gone = of_node(before, "web-1").server
    assert gone is not None
    assert (gone.deployment, gone.environment_id) == (DEPLOYMENT, ENVIRONMENT)  # nobody else's may be deleted here
    with connection_of(test_cloud, test_cloud.ours) as hand:
        server = hand.compute.get_server(gone.id)
        hand.compute.delete_server(server)
        hand.compute.wait_for_delete(server, wait=PATIENCE_S)
        with made_by_hand(hand, test_cloud) as (plain, marked):
            after = rows_of(surveys)
    (missing,) = of_node(after, "web-1").alerts
    assert missing.drift is Drift.MISSING
    assert missing.action == f'greenroom destroy {ENVIRONMENT} --reason "web-1 is gone"'
    (strange,) = of_server(after, plain).alerts
    assert (strange.drift, strange.action) == (Drift.STRANGER, "")
    (unknown,) = of_server(after, marked).alerts
    assert (unknown.drift, unknown.action) == (Drift.UNKNOWN, "greenroom audit")
    assert "second sighting" in unknown.text


def _made(hand: Connection, cloud: CloudUnderTest, name: str, metadata: dict[str, str]) -> Server:
    """A server that nobody asked Greenroom for."""
    return hand.compute.create_server(
        name=name,
        image_id=hand.image.find_image(cloud.image, ignore_missing=False).id,
        flavor_id=hand.compute.find_flavor("m1.tiny", ignore_missing=False).id,
        networks=[{"uuid": hand.network.find_network(cloud.network, ignore_missing=False).id}],
        metadata=metadata,
    )


def test_the_clouds_machines_are_an_inventory(cloud: OpenStackCloud) -> None:
    sight = cloud.look()
    assert sight.inventory is not None
    machine = sight.inventory.machine("fake-1")
    assert (machine.zone, machine.aggregates) == ("rack-A-1", ("hardware-X",))
    assert machine.overcommit["vcpu"] == 4.0
    assert machine.capacity["vcpu"] == 1000.0
    assert machine.capacity["memory_mib"] == 800_000 - 512
    assert Zone("rack-A-1", "RegionOne") in sight.inventory.zones
    (hardware,) = [one for one in sight.inventory.aggregates if one.name == "hardware-X"]
    assert hardware.features == {"hardware", "hardware=X"}
