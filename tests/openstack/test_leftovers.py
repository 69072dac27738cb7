"""Leftovers of a real cloud: what nothing uses is told, what is used is not, and ours goes by its mark alone."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock, RandomIds
from pipeline.adapters.clouds.openstack import OpenStackCloud
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Account, HostMark, Mark
from pipeline.domain.cloud_acts import ObjectKind, Verb
from pipeline.domain.leftovers import SECOND_SIGHTING_S, Finding, ThingKind
from pipeline.envs.books import Books
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(120)]
OURS = "leftovers"


@dataclass
class Scene:
    """A port of ours whose environment is in no book, and a port and a security group of somebody else."""

    leftovers: Leftovers
    acts: CloudActs
    books: Books
    clock: ManualClock
    ours: str
    theirs: str
    group: str

    def found(self) -> dict[str, Finding]:
        self.leftovers.look("cloud")
        return {one.thing.id: one.finding for one in self.leftovers.last("cloud").found}

    def take_back(self) -> str:
        act = self.acts.ask("cloud", Verb.TAKE_BACK, ObjectKind.ENVIRONMENT, "env-left", Asking("alice", "a test"))
        self.acts.carry_out(act.id)
        done = self.books.cloud_acts.get(act.id).value
        return done.refused or done.fault or done.outcome


@pytest.fixture
def scene(test_cloud: CloudUnderTest, tmp_path: Path) -> Iterator[Scene]:
    account, clock = Account(test_cloud.ours, str(test_cloud.clouds_file)), ManualClock()
    network, mark = connection_of(test_cloud, test_cloud.ours), Mark(OURS, "env-left")
    with ExitStack() as stack:
        stack.callback(network.close)
        on = next(iter(network.network.networks(name=test_cloud.network))).id
        group = network.network.create_security_group(name=f"spare-{secrets.token_hex(4)}")
        stack.callback(network.network.delete_security_group, group.id)
        theirs = network.network.create_port(network_id=on, security_groups=[])
        stack.callback(network.network.delete_port, theirs.id)
        ours = network.network.create_port(network_id=on, description=mark.description, security_groups=[])
        stack.callback(network.network.delete_port, ours.id)
        books, cloud = Books(MemoryStore(clock)), OpenStackCloud([account], None)
        stack.callback(cloud.close)
        driver = OpenStackDriver(OURS, account, {}, Terms(test_cloud.network, login=False), tmp_path)
        stack.callback(driver.close)
        provider = Provider("cloud", driver, MemoryTransport(clock), cloud=cloud)
        gate = Gate(books, clock)
        leftovers = Leftovers(books, lambda _: provider, clock, OURS)
        inventories, removals = Inventories(books, clock, gate), Removals(books, gate, clock)
        moving = MovingOff(books, inventories, gate, clock, OURS)
        acts = CloudActs(books, lambda _: provider, inventories, leftovers, removals, moving, gate, clock, RandomIds())
        yield Scene(leftovers, acts, books, clock, ours.id, theirs.id, group.id)


def test_ours_goes_by_its_mark_and_what_is_not_ours_is_only_told(scene: Scene) -> None:
    found = scene.found()
    assert (found[scene.ours], found[scene.theirs], found[scene.group]) == (
        Finding.UNKNOWN,
        Finding.UNUSED,
        Finding.UNUSED,
    )
    assert scene.take_back() == "known"
    scene.clock.sleep(SECOND_SIGHTING_S)
    assert scene.take_back() == "what environment env-left left is taken back"
    found = scene.found()
    assert scene.ours not in found
    assert {scene.theirs, scene.group} <= found.keys()


def test_a_routers_address_is_told_when_its_environment_is_over_and_goes_with_none(
    scene: Scene, test_cloud: CloudUnderTest
) -> None:
    mark = HostMark(OURS, "shop.test.example", "env-left")
    with closing(connection_of(test_cloud, test_cloud.ours)) as network:
        outside = next(iter(network.network.networks(name=test_cloud.external_network))).id
        address = network.network.create_ip(floating_network_id=outside, description=mark.description)
        try:
            assert scene.found()[address.id] is Finding.UNUSED
            scene.clock.sleep(SECOND_SIGHTING_S)
            assert scene.take_back() == "what environment env-left left is taken back"
            assert scene.found()[address.id] is Finding.UNUSED
        finally:
            network.network.delete_ip(address.id)


def test_an_administrators_account_shows_its_own_project_alone(test_cloud: CloudUnderTest) -> None:
    projects = set()
    for name in (test_cloud.ours, test_cloud.admin):
        cloud = OpenStackCloud([Account(name, str(test_cloud.clouds_file))], None)
        things = cloud.things()
        cloud.close()
        assert [one.used for one in things if one.kind is ThingKind.SECURITY_GROUP and one.name == "default"] == [True]
        [project] = {one.project for one in things}
        projects.add(project)
    assert len(projects) == 2
