"""What every cloud keeps to: the docstrings of `pipeline.ports.clouds`, as tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.adapters.clouds.memory import MemorySky
from pipeline.adapters.clouds.openstack import OpenStackCloud
from pipeline.clients.openstack import Account
from pipeline.domain.inventory import Inventory, Machine, Zone, checked
from pipeline.domain.leftovers import Thing, ThingKind
from pipeline.ports.clouds import Cloud, Sight
from tests.plugins.openstack_cloud import CloudUnderTest


@dataclass
class Subject:
    """`wide` sees machines, `narrow` does not."""

    wide: Cloud
    narrow: Cloud


def _memory() -> Subject:
    inventory = Inventory((Machine("m1", "a", {"vcpu": 4.0}),), (Zone("a"),))
    wide = Sight((), inventory, {"m1": {"vcpu": 0.0}}, frozenset({"a"}))
    usual = [Thing(ThingKind.SECURITY_GROUP, "g-1", "default", used=True)]
    return Subject(MemorySky(wide, usual), MemorySky(Sight(zones=frozenset({"a"})), usual))


@pytest.fixture(params=["memory", pytest.param("openstack", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "memory":
        yield _memory()
        return
    test_cloud: CloudUnderTest = request.getfixturevalue("test_cloud")
    own, admin = (Account(name, str(test_cloud.clouds_file)) for name in (test_cloud.ours, test_cloud.admin))
    made = Subject(OpenStackCloud([own], admin), OpenStackCloud([own, own], None))
    yield made
    made.wide.close()
    made.narrow.close()


def test_machines_make_sense_and_stand_in_zones(subject: Subject) -> None:
    sight = subject.wide.look()
    assert sight.inventory is not None
    checked(sight.inventory)
    assert sight.inventory.machines
    assert sight.zones <= {zone.name for zone in sight.inventory.zones}


def test_what_is_used_is_told_of_every_machine(subject: Subject) -> None:
    sight = subject.wide.look()
    assert sight.inventory is not None
    for machine in sight.inventory.machines:
        assert sight.used[machine.name].keys() <= machine.capacity.keys()
        assert all(amount >= 0 for amount in sight.used[machine.name].values())


def test_who_may_not_see_machines_sees_zones_all_the_same(subject: Subject) -> None:
    sight = subject.narrow.look()
    assert (sight.inventory, sight.used) == (None, {})
    assert sight.zones


def test_each_thing_of_the_accounts_projects_is_shown_once_whoever_sees_machines(subject: Subject) -> None:
    """What is there in two looks was there in the one between them; others make things and remove them meanwhile."""
    clouds = (subject.narrow, subject.wide, subject.narrow, subject.wide)
    looks = [[(one.kind, one.id) for one in cloud.things()] for cloud in clouds]
    assert all(len(set(look)) == len(look) for look in looks)
    first, second, third, fourth = map(set, looks)
    assert first & third
    assert first & third <= second
    assert second & fourth <= third


def test_every_server_is_shown_once(subject: Subject) -> None:
    for cloud in (subject.wide, subject.narrow):
        servers = cloud.look().servers
        assert len({server.id for server in servers}) == len(servers)
