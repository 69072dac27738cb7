"""What every keeper of snapshots keeps to: the docstrings of `pipeline.ports.snapshots`, as tests."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver, MemorySnapshots
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.snapshots import OpenStackSnapshots
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account
from pipeline.domain.errors import NotFound
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.snapshots import Snapshot, SnapshotState
from pipeline.ports.drivers import Driver, EnvironmentRequest, NodeRequest, NodeStatus
from pipeline.ports.snapshots import Snapshots
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest
from tests.tools.deployment import wait_for

OURS, THEIRS = "snapshots", "others"
WISH = Snapshot("seeded", "shop", "env-1", "web-0")


@dataclass
class Subject:
    """A keeper, that of a deployment beside it, and a driver whose environment `env-1` has the node `web-0`."""

    keeper: Snapshots
    stranger: Snapshots
    driver: Driver


def _stands(driver: Driver, keys: Keys, image: str) -> None:
    size = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)
    node = NodeRequest("web-0", "web", image, size, QosProfile(), keys.host, keys.host_public)
    driver.create(EnvironmentRequest(OURS, "env-1", "shop", keys.login_public, time.time() + 3600, (node,)))
    wait_for(lambda: all(view.status is NodeStatus.ACTIVE for view in driver.nodes()), "the node", 120.0)


@pytest.fixture(params=["memory", pytest.param("openstack", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest, node_keys: Keys, tmp_path: Path) -> Iterator[Subject]:
    if request.param == "memory":
        cloud = MemoryCloud()
        made = Subject(MemorySnapshots(cloud), MemorySnapshots(cloud), MemoryDriver(cloud, OURS))
        _stands(made.driver, node_keys, "plain")
        yield made
        return
    test_cloud: CloudUnderTest = request.getfixturevalue("test_cloud")
    account = Account(test_cloud.ours, str(test_cloud.clouds_file))
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    made = Subject(
        OpenStackSnapshots(OURS, account, {"shop": account}, terms),
        OpenStackSnapshots(THEIRS, account, {}, terms),
        OpenStackDriver(OURS, account, {}, terms, tmp_path),
    )
    try:
        _stands(made.driver, node_keys, "plain")
        yield made
    finally:
        for one in made.keeper.all():
            made.keeper.remove(one)
        made.driver.destroy("env-1")
        for closing in (made.keeper, made.stranger, made.driver):
            closing.close()


def test_what_was_taken_is_listed_with_all_that_it_is(subject: Subject) -> None:
    taken = subject.keeper.take(WISH)
    assert replace(taken, id="", state=WISH.state, size=0, taken_at=0.0) == WISH
    assert taken.id
    assert taken.state is not SnapshotState.FAILED
    assert [one.id for one in subject.keeper.all()] == [taken.id]
    assert list(subject.stranger.all()) == []


def test_one_of_each_project_is_kept_by_its_name(subject: Subject) -> None:
    subject.keeper.take(WISH)
    subject.keeper.take(replace(WISH, project="forum"))
    found = {(one.project, one.name) for one in subject.keeper.all()}
    assert found == {("shop", "seeded"), ("forum", "seeded")}


@pytest.mark.parametrize("wish", [replace(WISH, node="db-0"), replace(WISH, environment="env-2")])
def test_of_what_is_not_there_nothing_is_taken(subject: Subject, wish: Snapshot) -> None:
    with pytest.raises(NotFound, match=wish.node):
        subject.keeper.take(wish)
    assert list(subject.keeper.all()) == []


def test_what_is_removed_is_gone_and_once_more_is_no_error(subject: Subject) -> None:
    taken = subject.keeper.take(WISH)
    assert list(subject.keeper.users(taken)) == []
    for _ in range(2):
        subject.keeper.remove(taken)
    assert list(subject.keeper.all()) == []
