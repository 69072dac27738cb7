"""The Vagrant driver against what its provider `openstack` gets wrong: the cloud is asked, and puts it right."""

from __future__ import annotations

import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.drivers.vagrant.driver import VagrantDriver
from pipeline.domain.errors import TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.plugins.local_nodes import ROOT, Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.plugins.vagrant_servers import vagrant_servers

ENVIRONMENT = "env-vagrant"
PATIENCE_S = 120.0
#: Wants all servers on one hypervisor, which those of two zones cannot be.
TOGETHER = """
alias alone provide
def provide(machine, wanted) = alone(machine, wanted.merge("scheduler_hints" => {"group" => "GROUP"}))
"""

pytestmark = [pytest.mark.openstack, pytest.mark.vagrant, pytest.mark.timeout(600)]


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    """A copy of the templates, for a test to change."""
    return Path(shutil.copytree(ROOT / "vagrant", tmp_path / "templates"))


@pytest.fixture
def driver(test_cloud: CloudUnderTest, tmp_path: Path, templates: Path) -> Iterator[VagrantDriver]:
    made = vagrant_servers(test_cloud, f"vd{secrets.token_hex(4)}", tmp_path, templates)
    yield made
    made.destroy(ENVIRONMENT)
    assert made.list().environments == ()


def request_of(keys: Keys, *names: str) -> EnvironmentRequest:
    size = Resources(1, 64, 1)
    nodes = (NodeRequest(name, "web", "plain", size, QosProfile(), keys.host, keys.host_public) for name in names)
    return EnvironmentRequest("any", ENVIRONMENT, "shop", keys.login_public, time.time() + 3600, tuple(nodes))


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


def test_why_a_server_failed_is_told_in_the_words_of_nova(
    driver: VagrantDriver, test_cloud: CloudUnderTest, node_keys: Keys, templates: Path
) -> None:
    request = request_of(node_keys, "web-0", "web-1")
    apart = tuple(replace(node, zone=zone) for node, zone in zip(request.nodes, ("rack-A-1", "rack-A-2"), strict=True))
    with connection_of(test_cloud, test_cloud.ours) as hand:
        group = hand.compute.create_server_group(name=f"{ENVIRONMENT}-together", policy="affinity")
        with (templates / "openstack/provider.rb").open("a") as file:
            file.write(TOGETHER.replace("GROUP", group.id))
        try:
            with pytest.raises(TransientError, match=r"web-\d: server .* is ERROR: "):
                driver.create(replace(request, nodes=apart))
        finally:
            hand.compute.delete_server_group(group)
    assert any("is ERROR: " in view.fault for view in driver.nodes())
