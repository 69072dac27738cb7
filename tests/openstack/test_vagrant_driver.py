"""The Vagrant driver against what its provider `openstack` gets wrong, or cannot: the cloud is asked beside it."""

from __future__ import annotations

import multiprocessing
import secrets
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.clients.openstack import Mark, marks
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Wiring
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.plugins.local_nodes import ROOT, Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.plugins.vagrant_servers import vagrant_servers
from tests.tools.deployment import wait_for

if TYPE_CHECKING:
    from openstack.compute.v2.server import Server
    from openstack.connection import Connection

ENVIRONMENT = "env-vagrant"
PATIENCE_S = 120.0
#: Wants all servers on one hypervisor, which those of two zones cannot be.
TOGETHER = """
alias alone provide
def provide(machine, wanted) = alone(machine, wanted.merge("scheduler_hints" => {"group" => "GROUP"}))
"""

#: Makes a driver of the test's deployment, with the same files each time.
Make = Callable[[], VagrantDriver]

pytestmark = [pytest.mark.openstack, pytest.mark.vagrant, pytest.mark.timeout(600)]


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, for a test to change."""
    return Path(shutil.copytree(ROOT / "vagrant", tmp_path / "templates"))


@pytest.fixture
def deployment() -> str:
    return f"vd{secrets.token_hex(4)}"


@pytest.fixture
def make(test_cloud: CloudUnderTest, deployment: str, tmp_path: Path, templates: Path) -> Make:
    """Its nodes may have floating addresses, and project `far` has an account of its own."""
    terms = Terms(test_cloud.network, test_cloud.external_network, images={"plain": test_cloud.image}, login=False)
    projects = {"far": test_cloud.neighbour}
    return partial(
        vagrant_servers, test_cloud, deployment, tmp_path, templates=templates, terms=terms, projects=projects
    )


@pytest.fixture
def driver(make: Make) -> Iterator[VagrantDriver]:
    made = make()
    yield made
    made.destroy(ENVIRONMENT)
    assert made.list().environments == ()


def request_of(keys: Keys, *names: str) -> EnvironmentRequest:
    size = Resources(1, 64, 1)
    nodes = (NodeRequest(name, "web", "plain", size, QosProfile(), keys.host, keys.host_public) for name in names)
    return EnvironmentRequest("any", ENVIRONMENT, "shop", keys.login_public, time.time() + 3600, tuple(nodes))


def floating(request: EnvironmentRequest) -> EnvironmentRequest:
    """The same with a floating address for each node."""
    return replace(request, nodes=tuple(replace(node, wiring=Wiring(floating=True)) for node in request.nodes))


def floating_addresses(hand: Connection, deployment: str) -> set[str]:
    found = hand.network.ips(description=Mark(deployment, ENVIRONMENT).description)
    return {one.floating_ip_address for one in found}


@contextmanager
def shared_with(cloud: CloudUnderTest, other: Connection) -> Iterator[None]:
    """Our network may be used by the project of another account."""
    with connection_of(cloud, cloud.ours) as hand:
        network = hand.network.find_network(cloud.network, ignore_missing=False)
        share = hand.network.create_rbac_policy(
            object_type="network",
            object_id=network.id,
            action="access_as_shared",
            target_tenant=other.current_project_id,
        )
        try:
            yield
        finally:
            hand.network.delete_rbac_policy(share)


def test_a_server_that_was_deleted_by_hand_is_made_again_beside_the_other(
    driver: VagrantDriver, test_cloud: CloudUnderTest, node_keys: Keys
) -> None:
    request = request_of(node_keys, "web-0", "web-1")
    driver.create(request)
    before = {view.name: view for view in driver.nodes()}
    assert {view.status for view in before.values()} == {NodeStatus.ACTIVE}
    with connection_of(test_cloud, test_cloud.ours) as hand:
        server = hand.compute.get_server(before["web-0"].driver_id)
        hand.compute.delete_server(server)
        hand.compute.wait_for_delete(server, wait=PATIENCE_S)
    driver.create(request)
    after = {view.name: view for view in driver.nodes()}
    assert after["web-1"] == before["web-1"]
    assert after["web-0"].status is NodeStatus.ACTIVE
    assert after["web-0"].driver_id != before["web-0"].driver_id


def test_a_server_that_failed_is_shown_with_the_words_of_nova(
    driver: VagrantDriver, test_cloud: CloudUnderTest, node_keys: Keys, templates: Path
) -> None:
    """Which is not tried again here: whoever looks at nodes sends the build elsewhere."""
    request = request_of(node_keys, "web-0", "web-1")
    apart = tuple(replace(node, zone=zone) for node, zone in zip(request.nodes, ("rack-A-1", "rack-A-2"), strict=True))
    with connection_of(test_cloud, test_cloud.ours) as hand:
        group = hand.compute.create_server_group(name=f"{ENVIRONMENT}-together", policy="affinity")
        with (templates / "openstack/provider.rb").open("a") as file:
            file.write(TOGETHER.replace("GROUP", group.id))
        try:
            driver.create(replace(request, nodes=apart))
        finally:
            hand.compute.delete_server_group(group)
    faults = [view.fault for view in driver.nodes() if view.status is NodeStatus.ERROR]
    assert len(faults) == 1
    assert "is ERROR: " in faults[0]


def test_a_floating_address_goes_with_its_node(
    driver: VagrantDriver, test_cloud: CloudUnderTest, deployment: str, node_keys: Keys
) -> None:
    driver.create(floating(request_of(node_keys, "web-0", "web-1")))
    with connection_of(test_cloud, test_cloud.ours) as hand:
        addresses = {view.name: view.address or "" for view in driver.nodes()}
        assert floating_addresses(hand, deployment) == set(addresses.values())
        assert all(view.inside_address not in ("", view.address) for view in driver.nodes())
        driver.destroy(ENVIRONMENT, ["web-1"])
        assert floating_addresses(hand, deployment) == {addresses["web-0"]}
        driver.destroy(ENVIRONMENT)
        assert floating_addresses(hand, deployment) == set()


def test_a_server_that_has_not_all_yet_is_being_built_until_it_has(
    driver: VagrantDriver, test_cloud: CloudUnderTest, deployment: str, node_keys: Keys
) -> None:
    """As it is left by whoever is killed when Vagrant has made it."""
    request = floating(request_of(node_keys, "web-0"))
    driver.create(request)
    [before] = driver.nodes()
    with connection_of(test_cloud, test_cloud.ours) as hand:
        hand.compute.delete_server_metadata(before.driver_id, [marks.ADDRESS])
        [meanwhile] = driver.nodes()
        assert (meanwhile.status, meanwhile.address) == (NodeStatus.BUILDING, None)
        driver.create(request)
        assert driver.nodes() == [before]
        assert floating_addresses(hand, deployment) == {before.address}


@pytest.mark.parametrize("moment", ["before vagrant", "while vagrant works", "after vagrant"])
def test_whoever_makes_servers_may_be_killed(
    driver: VagrantDriver,
    make: Make,
    test_cloud: CloudUnderTest,
    deployment: str,
    node_keys: Keys,
    moment: str,
) -> None:
    """And whoever comes next has each of them once."""
    request, mark = floating(request_of(node_keys, "web-0", "web-1")), Mark(deployment, ENVIRONMENT)
    doomed = multiprocessing.get_context("fork").Process(target=lambda: make().create(request))
    with connection_of(test_cloud, test_cloud.ours) as hand:

        def servers() -> list[Server]:
            return [one for one in hand.compute.servers(details=True) if marks.marked(one.metadata) == mark]

        come = {
            "before vagrant": lambda: list(hand.network.security_groups(description=mark.description)),
            "while vagrant works": servers,
            "after vagrant": lambda: list(hand.network.ips(description=mark.description)),
        }[moment]
        doomed.start()
        wait_for(come, moment, PATIENCE_S, 0.2)
        doomed.kill()
        doomed.join()
        assert doomed.exitcode == -signal.SIGKILL
        driver.create(request)
        views = {view.name: view for view in driver.nodes()}
        assert {name: view.status for name, view in views.items()} == dict.fromkeys(views, NodeStatus.ACTIVE)
        assert sorted(one.id for one in servers()) == sorted(view.driver_id for view in views.values())
        assert floating_addresses(hand, deployment) == {view.address for view in views.values()}


def test_servers_of_a_project_are_in_its_own_account(
    driver: VagrantDriver, test_cloud: CloudUnderTest, deployment: str, node_keys: Keys
) -> None:
    ours = request_of(node_keys, "web-0")
    theirs = replace(ours, environment_id=f"{ENVIRONMENT}-far", project="far")
    with connection_of(test_cloud, test_cloud.neighbour) as far, shared_with(test_cloud, far):
        try:
            for request in (ours, theirs):
                driver.create(request)
            assert {view.environment_id for view in driver.nodes()} == {ENVIRONMENT, theirs.environment_id}
            found = {marks.marked(server.metadata) for server in far.compute.servers()}
            assert {one for one in found if one and one.deployment == deployment} == {
                Mark(deployment, theirs.environment_id)
            }
        finally:
            driver.destroy(theirs.environment_id)
    assert [view.environment_id for view in driver.nodes()] == [ENVIRONMENT]


def test_nodes_of_a_role_that_is_spread_stand_on_different_machines(
    driver: VagrantDriver, test_cloud: CloudUnderTest, node_keys: Keys
) -> None:
    request = request_of(node_keys, "web-0", "web-1", "web-2")
    driver.create(replace(request, nodes=tuple(replace(node, per_machine=1) for node in request.nodes)))
    ids = {view.driver_id for view in driver.nodes()}
    with connection_of(test_cloud, test_cloud.admin) as hand:
        machines = [server.compute_host for server in hand.compute.servers(all_projects=True) if server.id in ids]
    assert len(set(machines)) == 3
