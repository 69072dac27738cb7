"""Networks, openings, addresses and what a project sets of its servers, as the cloud has them afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark, marks
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Attachment, Custom, Network, Opening, Wiring
from pipeline.ports.drivers import Driver, EnvironmentRequest, NodeRequest
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.plugins.vagrant_servers import vagrant_servers

if TYPE_CHECKING:
    from openstack.connection import Connection

MARK = Mark("wiring", "env-wiring")
OFFICE = "wiring-office"
#: Far from where the cloud begins to give addresses of its network.
VIRTUAL = "10.20.255.200"
#: What a project sets of its servers; one name is ours.
SET = {"team": "shop", marks.ADDRESS: "203.0.113.1"}
WIRED = Wiring(
    openings=(Opening("tcp", 443, 443), Opening("udp", 9000, 9010, "10.0.0.0/8"), Opening("icmp", 0, 0)),
    virtual_address=VIRTUAL,
    floating=True,
)

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(180)]


@dataclass(frozen=True)
class Wired:
    """An environment with a network of its own, attached to one that was there before."""

    driver: Driver
    connection: Connection
    office: str
    flavor: str

    def ports(self) -> dict[str, Any]:
        """By name."""
        found = self.connection.network.ports(description=MARK.description)
        return {port.name.removeprefix(MARK.name_of("")): port for port in found}


@pytest.fixture(scope="module", params=["openstack", pytest.param("vagrant", marks=pytest.mark.vagrant)])
def wired(
    request: pytest.FixtureRequest,
    test_cloud: CloudUnderTest,
    node_keys: Keys,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Wired]:
    connection = connection_of(test_cloud, test_cloud.ours)
    office = connection.network.create_network(name=OFFICE)
    connection.network.create_subnet(network_id=office.id, ip_version=4, cidr="10.41.0.0/24", gateway_ip=None)
    images = {"plain": test_cloud.image}
    terms = Terms(
        test_cloud.network, test_cloud.external_network, images=images, custom=frozenset({"flavor", "metadata"})
    )
    files = tmp_path_factory.mktemp("files")
    driver: Driver
    if request.param == "vagrant":
        driver = vagrant_servers(test_cloud, MARK.deployment, files, terms=terms)
    else:
        account = Account(test_cloud.ours, str(test_cloud.clouds_file))
        driver = OpenStackDriver(MARK.deployment, account, {}, terms, files)
    flavor = max(connection.compute.flavors(), key=lambda one: one.ram).name
    try:
        driver.create(request_of(node_keys, flavor))
        yield Wired(driver, connection, office.id, flavor)
    finally:
        driver.destroy(MARK.environment_id)
        assert driver.list().environments == ()
        driver.close()
        connection.network.delete_network(office)
        connection.close()


def request_of(keys: Keys, flavor: str) -> EnvironmentRequest:
    def node(name: str, wiring: Wiring, custom: Custom) -> NodeRequest:
        size, qos = Resources(1, 64, 1), QosProfile()
        role = name.partition("-")[0]
        return NodeRequest(name, role, "plain", size, qos, keys.host, keys.host_public, wiring=wiring, custom=custom)

    attached = (Attachment("backend", "10.40.0.11"), Attachment("office"))
    nodes = (
        node("web-0", WIRED, Custom()),
        node("web-1", WIRED, Custom()),
        node("db-0", Wiring(attachments=attached), Custom(flavor=flavor, metadata=SET)),
    )
    networks = (Network("backend", cidr="10.40.0.0/24"), Network("office", shared=OFFICE))
    return EnvironmentRequest(
        MARK.deployment, MARK.environment_id, "shop", keys.login_public, time.time() + 3600, nodes, "shop", networks
    )


def test_a_node_has_a_port_in_each_of_its_networks(wired: Wired) -> None:
    ports = wired.ports()
    assert ports.keys() == {"web-0", "web-1", "db-0", "db-0.backend", "db-0.office", f"virtual-{VIRTUAL}"}
    assert ports["db-0.office"].network_id == wired.office
    assert [one["ip_address"] for one in ports["db-0.backend"].fixed_ips] == ["10.40.0.11"]
    assert ports["db-0.office"].fixed_ips[0]["ip_address"].startswith("10.41.0.")


def test_a_node_is_shown_with_all_its_addresses(wired: Wired) -> None:
    [view] = [view for view in wired.driver.nodes() if view.name == "db-0"]
    office = wired.ports()["db-0.office"].fixed_ips[0]["ip_address"]
    assert view.addresses == {"backend": "10.40.0.11", "office": office}


def test_a_virtual_address_is_kept_and_let_through_to_every_node_that_names_it(wired: Wired) -> None:
    ports = wired.ports()
    assert [one["ip_address"] for one in ports[f"virtual-{VIRTUAL}"].fixed_ips] == [VIRTUAL]
    let_through = {name: [one["ip_address"] for one in port.allowed_address_pairs] for name, port in ports.items()}
    assert {name for name, addresses in let_through.items() if addresses == [VIRTUAL]} == {"web-0", "web-1"}


def test_what_a_role_opens_is_open_to_its_nodes_alone(wired: Wired) -> None:
    ports = wired.ports()
    [opened] = set(ports["web-0"].security_group_ids) - set(ports["db-0"].security_group_ids)
    group = wired.connection.network.get_security_group(opened)
    rules = {
        (rule["protocol"], rule["port_range_min"], rule["port_range_max"], rule["remote_ip_prefix"])
        for rule in group.security_group_rules
        if rule["direction"] == "ingress"
    }
    assert rules == {
        ("tcp", 443, 443, "0.0.0.0/0"),
        ("udp", 9000, 9010, "10.0.0.0/8"),
        ("icmp", None, None, "0.0.0.0/0"),
    }


def test_floating_addresses_are_for_those_that_asked(wired: Wired) -> None:
    found = {one.port_id for one in wired.connection.network.ips(description=MARK.description)}
    ports = wired.ports()
    assert found == {ports["web-0"].id, ports["web-1"].id}


def test_a_server_has_what_its_project_set_beside_our_marks(wired: Wired) -> None:
    [server] = [one for one in wired.connection.compute.servers() if one.metadata.get("team") == "shop"]
    assert server.flavor.name == wired.flavor
    assert marks.marked(server.metadata) == MARK
    assert server.metadata[marks.ADDRESS] != SET[marks.ADDRESS]


def test_asked_for_again_it_is_the_same(wired: Wired, node_keys: Keys) -> None:
    before = {name: port.id for name, port in wired.ports().items()}
    wired.driver.create(request_of(node_keys, wired.flavor))
    assert {name: port.id for name, port in wired.ports().items()} == before
