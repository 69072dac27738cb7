"""Servers of the test cloud against the books, after somebody worked by hand; its machines as an inventory."""

from __future__ import annotations

import time
from collections.abc import Iterator
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
from pipeline.domain.inventory import MachineState, Zone
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
    while any(view.status is NodeStatus.BUILDING for view in (found := driver.nodes())):
        assert time.monotonic() < deadline
        time.sleep(0.5)
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
def surveys(driver: OpenStackDriver, cloud: OpenStackCloud, keys: Keys) -> Surveys:
    clock = SystemClock()
    books = Books(MemoryStore(clock))
    written(books, delivered(driver, keys))
    provider = Provider("cloud", driver, MemoryTransport(clock), cloud=cloud)
    inventories = Inventories(books, clock, Gate(books, clock))
    return Surveys(books, lambda _: provider, inventories, clock, DEPLOYMENT, lambda _: None)


def rows_of(surveys: Surveys) -> dict[str, Row]:
    """What the survey says, by the server's name, or the node's where there is no server."""
    surveys.survey("cloud", takes_over=True)
    survey = surveys.last("cloud")
    assert survey is not None
    return {row.server.name if row.server else row.node.name if row.node else "": row for row in survey.rows}


def test_a_server_deleted_and_others_made_by_hand_are_shown(test_cloud: CloudUnderTest, surveys: Surveys) -> None:
    before = rows_of(surveys)
    assert {Drift.MISSING, Drift.ZONE, Drift.SIZE, Drift.STATE}.isdisjoint(
        alert.drift for name in NAMES for alert in before[name].alerts
    )
    gone = before["web-1"].server
    assert gone is not None
    with connection_of(test_cloud, test_cloud.ours) as hand:
        made: list[Server] = []
        try:
            hand.compute.delete_server(gone.id)
            hand.compute.wait_for_delete(hand.compute.get_server(gone.id), wait=PATIENCE_S)
            ours = {marks.DEPLOYMENT: DEPLOYMENT, marks.ENVIRONMENT: "env-nobody", marks.NODE: "web-0"}
            for name, metadata in (("sync-by-hand", {}), ("sync-marked", ours)):
                made.append(_made(hand, test_cloud, name, metadata))
            after = rows_of(surveys)
        finally:
            for server in made:
                hand.compute.delete_server(server)
            for server in made:
                hand.compute.wait_for_delete(server, wait=PATIENCE_S)
    (missing,) = after["web-1"].alerts
    assert missing.drift is Drift.MISSING
    assert missing.action == f'greenroom destroy {ENVIRONMENT} --reason "web-1 is gone"'
    (strange,) = after["sync-by-hand"].alerts
    assert (strange.drift, strange.action) == (Drift.STRANGER, "")
    (unknown,) = after["sync-marked"].alerts
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


def test_a_disabled_service_is_in_maintenance_until_it_is_enabled(
    test_cloud: CloudUnderTest, cloud: OpenStackCloud
) -> None:
    with connection_of(test_cloud, test_cloud.admin) as admin:
        (service,) = [one for one in admin.compute.services(binary="nova-compute") if one.host == "fake-4"]
        admin.compute.disable_service(service, disabled_reason="sync tries it")
        try:
            sight = cloud.look()
        finally:
            admin.compute.enable_service(service)
    assert sight.inventory is not None
    machine = sight.inventory.machine("fake-4")
    assert machine.state is MachineState.MAINTENANCE
    assert machine.state_reason == "the cloud says: disabled, sync tries it"
