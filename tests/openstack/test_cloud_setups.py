"""What a project gets of the real cloud: a credential that works, may not make others, and reaches nobody else's."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from openstack.connection import Connection
from openstack.exceptions import HttpException

from pipeline.adapters.clouds.openstack import OpenStackGrounds
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_setups import CloudSetup, Found, Part, plan, taken
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.contract.test_grounds import clear_away
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CLOUD_LOOK_S, CloudUnderTest, connection_of
from tests.tools.deployment import wait_for

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(120)]
SECRET = Secret("a-secret-of-the-test")
RULED = "ruled"


class Scene:
    def __init__(self, cloud: CloudUnderTest) -> None:
        self.cloud, mark = cloud, secrets.token_hex(4)
        self.grounds = OpenStackGrounds(Account(cloud.admin, str(cloud.clouds_file)))
        self.setup = CloudSetup(
            f"setup-{mark}", f"lab-{mark}", "cloud", "shop", f"net-{mark}", "ada", "", 0.0,
            limits={"servers": 1}, cidr="10.78.0.0/24", external_network=cloud.external_network,
        )  # fmt: skip

    def made(self) -> Found:
        found = self.grounds.find(self.setup)
        for step in plan(self.setup, found):
            if not step.there:
                self.grounds.make(step.part, self.setup, found, SECRET)
                found = self.grounds.find(self.setup)
        return found

    def entry(self, found: Found, file: Path) -> Account:
        """The credential as an entry of a file."""
        told = {**self.grounds.entry(found), "application_credential_secret": SECRET.reveal()}
        auth = {name: told.pop(name) for name in list(told) if name not in {"region_name", "cacert"}}
        entry = {"auth_type": "v3applicationcredential", "auth": auth, **told}
        file.write_text(json.dumps({"clouds": {RULED: entry}}))
        return Account(RULED, str(file))

    def connection(self, found: Found) -> Connection:
        """As the credential lets somebody in who has nothing else."""
        auth = {
            "auth_url": self.grounds.entry(found)["auth_url"],
            "application_credential_id": found[Part.CREDENTIAL].id,
            "application_credential_secret": SECRET.reveal(),
        }
        with closing(connection_of(self.cloud, self.cloud.admin)) as known:
            region, verify = known.config.region_name, known.config.get_requests_verify_args()[0]
        return Connection(auth_type="v3applicationcredential", auth=auth, region_name=region, verify=verify)


@pytest.fixture
def scene(test_cloud: CloudUnderTest) -> Iterator[Scene]:
    scene = Scene(test_cloud)
    yield scene
    clear_away(test_cloud, scene.grounds.find(scene.setup))
    scene.grounds.close()


def test_the_credential_works_and_reaches_its_own_project_alone(scene: Scene) -> None:
    found = scene.made()
    with closing(scene.connection(found)) as own:
        assert str(own.current_project_id) == found[Part.PROJECT].id
        assert list(own.compute.servers()) == []
        assert [one.name for one in own.network.networks(project_id=found[Part.PROJECT].id)] == [scene.setup.network]
        identity, user = cast("Any", own.identity), found[Part.USER].id  # both of its versions
        for forbidden in (
            lambda: list(own.compute.servers(all_projects=True)),
            lambda: list(identity.projects()),
            lambda: identity.create_application_credential(user, "another", roles=[{"name": "member"}]),
        ):
            with pytest.raises(HttpException) as refused:
                forbidden()
            assert refused.value.status_code == 403


def request(keys: Keys) -> EnvironmentRequest:
    node = NodeRequest("web-0", "web", "plain", Resources(1, 64, 1), QosProfile(), keys.host, keys.host_public)
    return EnvironmentRequest(RULED, RULED, "shop", keys.login_public, time.time() + 3600, (node,))


def makes_an_image(own: Connection) -> str:
    """Its id; Greenroom makes none."""
    return str(own.image.create_image(name="of-the-test", disk_format="raw", container_format="bare").id)


def test_a_credential_with_access_rules_may_deliver_and_nothing_else(
    scene: Scene, node_keys: Keys, tmp_path: Path
) -> None:
    found = scene.made()
    with closing(scene.connection(found)) as own:
        own.image.delete_image(makes_an_image(own))  # its role would let it
    scene.setup = replace(scene.setup, id="setup-ruled", renew=True, access_rules=True)
    found = scene.made()
    terms = Terms(scene.setup.network, images={"plain": scene.cloud.image}, login=False)
    driver = OpenStackDriver(RULED, scene.entry(found, tmp_path / "clouds.yaml"), {}, terms, tmp_path)
    try:
        assert driver.check() == []
        driver.create(request(node_keys))
        wait_for(
            lambda: [one.status for one in driver.nodes()] == [NodeStatus.ACTIVE], "an active node", 90.0, CLOUD_LOOK_S
        )
    finally:
        driver.destroy(RULED)
    assert driver.list().environments == ()
    driver.close()
    with closing(scene.connection(found)) as own:
        with pytest.raises(HttpException) as refused:
            makes_an_image(own)
        assert refused.value.status_code == 401


def test_a_router_leads_from_the_network_to_the_outside(scene: Scene) -> None:
    found = scene.made()
    with closing(connection_of(scene.cloud, scene.cloud.admin)) as cloud:
        router = cloud.network.get_router(found[Part.ROUTER].id)
        outside = cloud.network.get_network(router.external_gateway_info["network_id"])
        assert outside.name == scene.cloud.external_network
    assert found[Part.ROUTER].whole


def test_what_has_the_name_and_another_mark_is_somebody_elses(scene: Scene) -> None:
    """Deployment and project are one name together: two pairs may come to the same."""
    found = scene.grounds.find(scene.setup)
    scene.grounds.make(Part.PROJECT, scene.setup, found, SECRET)
    mark = scene.setup.deployment.removeprefix("lab-")
    other = CloudSetup("setup-2", "lab", "cloud", f"{mark}-shop", "net", "bob", "", 0.0)
    assert other.name == scene.setup.name
    assert taken(other, scene.grounds.find(other)) == f"project {other.name}"
