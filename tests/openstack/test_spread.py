"""Roles that are kept apart by an account that may not choose machines: where Nova put them, as an operator sees it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from keystoneauth1.session import Session

from pipeline.adapters.clouds.openstack import OpenStackCloud
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.looks import LOOK_S
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark
from pipeline.clients.openstack.marks import DEPLOYMENT
from pipeline.domain.leftovers import ThingKind
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import SERVER_LIST, CloudUnderTest, connection_of

if TYPE_CHECKING:
    from openstack.connection import Connection

OURS, ENVIRONMENT = "apart", "env-apart"
MARK = Mark(OURS, ENVIRONMENT)
SMALL = Resources(1, 64, 1)
PATIENCE_S = 90.0
#: As many as an environment of the bench has.
NODES = 5

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(240)]


@pytest.fixture
def admin(test_cloud: CloudUnderTest) -> Iterator[Connection]:
    made = connection_of(test_cloud, test_cloud.admin)
    yield made
    made.close()


@pytest.fixture
def neighbours(test_cloud: CloudUnderTest) -> Iterator[set[str]]:
    """Server groups of others in our project, one of them of another deployment."""
    own = connection_of(test_cloud, test_cloud.ours)
    names = ("web", Mark("somebody", ENVIRONMENT).group_of("web"))
    made = [own.compute.create_server_group(name=name, policy="soft-anti-affinity").id for name in names]
    yield set(made)
    assert set(made) <= {one.id for one in own.compute.server_groups()}
    for id in made:
        own.compute.delete_server_group(id)
    own.close()


@pytest.fixture
def driver(test_cloud: CloudUnderTest, neighbours: set[str], tmp_path: Path) -> Iterator[OpenStackDriver]:
    account = Account(test_cloud.ours, str(test_cloud.clouds_file))
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    made = OpenStackDriver(OURS, account, {}, terms, tmp_path)
    yield made
    made.destroy(ENVIRONMENT)
    made.close()
    assert neighbours


def request(keys: Keys, *names: str, per_machine: int | None) -> EnvironmentRequest:
    nodes = tuple(
        NodeRequest(
            name, name.rpartition("-")[0], "plain", SMALL, QosProfile(), keys.host, keys.host_public,
            per_machine=per_machine,
        )
        for name in names
    )  # fmt: skip
    return EnvironmentRequest(OURS, ENVIRONMENT, "shop", keys.login_public, time.time() + 3600, nodes)


def settled(driver: OpenStackDriver, count: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while [one.status for one in driver.nodes()] != [NodeStatus.ACTIVE] * count:
        assert time.monotonic() < deadline, driver.nodes()
        time.sleep(1.0)


def machines(admin: Connection) -> Counter[str]:
    """How many of our servers stand on each machine."""
    found = admin.compute.servers(all_projects=True)
    return Counter(one.compute_host for one in found if one.metadata.get(DEPLOYMENT) == OURS)


def our_groups(admin: Connection) -> list[Any]:
    return [one for one in admin.compute.server_groups(all_projects=True) if one.name.startswith(MARK.description)]


def test_three_nodes_of_a_role_stand_on_three_machines(
    driver: OpenStackDriver, admin: Connection, node_keys: Keys
) -> None:
    three = request(node_keys, "web-0", "web-1", "web-2", per_machine=1)
    driver.create(three)
    settled(driver, 3)
    assert sorted(machines(admin).values()) == [1, 1, 1]
    [group] = our_groups(admin)
    assert (group.name, group.policy, len(group.member_ids)) == (MARK.group_of("web"), "anti-affinity", 3)
    further = replace(three, nodes=(*three.nodes, replace(three.nodes[0], name="web-3")))
    for _ in range(2):  # and once more, which makes no second group
        driver.create(further)
    settled(driver, 4)
    assert sorted(machines(admin).values()) == [1, 1, 1, 1]
    assert len(our_groups(admin)) == 1
    driver.destroy(ENVIRONMENT)
    assert our_groups(admin) == []


def test_a_share_of_two_is_kept_where_there_are_not_machines_enough(
    driver: OpenStackDriver, admin: Connection, node_keys: Keys
) -> None:
    four = request(node_keys, "web-0", "web-1", "web-2", "web-3", per_machine=2)
    driver.create(replace(four, nodes=tuple(replace(node, zone="rack-A-1") for node in four.nodes)))
    settled(driver, 4)
    assert sorted(machines(admin).values()) == [2, 2]


def test_each_role_has_a_group_of_its_own_and_others_have_none(
    driver: OpenStackDriver, admin: Connection, node_keys: Keys
) -> None:
    spread, plain = request(node_keys, "web-0", "db-0", per_machine=0), request(node_keys, "batch-0", per_machine=None)
    driver.create(replace(spread, nodes=(*spread.nodes, *plain.nodes)))
    settled(driver, 3)
    told = {one.name: (one.policy, len(one.member_ids)) for one in our_groups(admin)}
    assert told == {MARK.group_of(role): ("soft-anti-affinity", 1) for role in ("web", "db")}


def test_a_group_of_a_build_that_died_is_seen_and_goes(
    driver: OpenStackDriver,
    admin: Connection,
    test_cloud: CloudUnderTest,
    node_keys: Keys,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask = Session.request

    def no_ports(self: Session, url: str, method: str, *args: Any, **more: Any) -> Any:
        if method == "POST" and url.endswith("/ports"):
            raise KeyboardInterrupt
        return ask(self, url, method, *args, **more)

    build = request(node_keys, "web-0", per_machine=1)
    with monkeypatch.context() as patch:
        patch.setattr(Session, "request", no_ports)
        with pytest.raises(KeyboardInterrupt):
            driver.create(build)
    assert len(our_groups(admin)) == 1
    assert [one.environment_id for one in driver.list().environments] == [ENVIRONMENT]
    cloud = OpenStackCloud([Account(test_cloud.ours, str(test_cloud.clouds_file))], None)
    seen = [one for one in cloud.things() if one.kind is ThingKind.SERVER_GROUP and one.deployment == OURS]
    cloud.close()
    assert [one.environment_id for one in seen] == [ENVIRONMENT]
    driver.destroy(ENVIRONMENT)
    assert our_groups(admin) == []


def test_it_costs_three_calls_an_environment(
    driver: OpenStackDriver, node_keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One makes the group, one looks for it at the end, one removes it; shared lists tell where servers are."""
    ask, calls = Session.request, Counter[str]()

    def counted(self: Session, url: str, method: str, *args: Any, **more: Any) -> Any:
        what = "group" if "os-server-groups" in url else "list" if url == SERVER_LIST else "other"
        calls[f"{method} {what}"] += 1
        return ask(self, url, method, *args, **more)

    driver.create(request(node_keys, "web-0", per_machine=1))  # what is asked once for all is known now
    driver.destroy(ENVIRONMENT)
    monkeypatch.setattr(Session, "request", counted)
    names = [f"web-{number}" for number in range(NODES)]
    began = time.monotonic()
    driver.create(request(node_keys, *names, per_machine=2))
    settled(driver, NODES)
    driver.destroy(ENVIRONMENT)
    lists, intervals = calls.pop("GET list"), (time.monotonic() - began) / LOOK_S
    assert {name: calls[name] for name in calls if name.endswith("group")} == {
        "POST group": 1,
        "GET group": 1,
        "DELETE group": 1,
    }
    assert sum(calls.values()) / NODES <= 8, calls
    assert lists <= 2 * intervals  # by the driver, and by this test
