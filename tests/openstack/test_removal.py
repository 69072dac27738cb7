"""What a server leaves behind that went before it stood goes, too."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from openstack.exceptions import ForbiddenException

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(60)]
OURS = "removal"


def test_a_port_that_a_server_did_not_let_go_is_removed(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    connection, mark = connection_of(test_cloud, test_cloud.ours), Mark(OURS, "env-early")
    account = Account(test_cloud.ours, str(test_cloud.clouds_file))
    driver = OpenStackDriver(OURS, account, {}, Terms(test_cloud.network, login=False), tmp_path)
    with ExitStack() as stack:
        stack.callback(connection.close)
        stack.callback(driver.close)
        network = connection.network
        on = next(iter(network.networks(name=test_cloud.network))).id
        port = network.create_port(network_id=on, description=mark.description, security_groups=[])
        stack.callback(network.delete_port, port.id)
        network.update_port(port.id, device_id="00000000-0000-0000-0000-000000000000", device_owner="compute:nova")
        with pytest.raises(ForbiddenException):
            network.delete_port(port.id)

        driver.destroy(mark.environment_id)

        assert network.find_port(port.id) is None
