"""What every estate keeps to: the docstrings of `pipeline.ports.clouds.Estate`, as tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from pipeline.adapters.clouds.memory import MemoryEstate
from pipeline.adapters.clouds.openstack import OpenStackEstate
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_acts import CloudObject, ObjectKind
from pipeline.domain.errors import UserError
from pipeline.ports.clouds import Estate
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

#: A machine that poses, on which tests may let nothing new stand for a moment.
MACHINE = "fake-2"


class Hand(Protocol):
    """Makes things beside the estate."""

    def network(self, name: str) -> str:
        """A network of that name; its id."""

    def use(self, network: str) -> str:
        """A port on it; its id."""


@dataclass
class MemoryHand:
    estate: MemoryEstate

    def network(self, name: str) -> str:
        id = f"id-{len(self.estate.objects)}"
        self.estate.objects[id] = CloudObject(ObjectKind.NETWORK, id, name)
        return id

    def use(self, network: str) -> str:
        self.estate.used_by[network] = ["port port-1 (of no server) of project shop"]
        return "port-1"


class OpenStackHand:
    """Removes at the end what it made."""

    def __init__(self, cloud: CloudUnderTest) -> None:
        self._connection = connection_of(cloud, cloud.ours)
        self._networks: list[str] = []
        self._ports: list[str] = []

    def network(self, name: str) -> str:
        self._networks.append(self._connection.network.create_network(name=name).id)
        return self._networks[-1]

    def use(self, network: str) -> str:
        self._ports.append(self._connection.network.create_port(network_id=network).id)
        return self._ports[-1]

    def clear_away(self) -> None:
        for port in self._ports:
            self._connection.network.delete_port(port)
        for network in self._networks:
            self._connection.network.delete_network(network)
        self._connection.close()


@dataclass
class Subject:
    estate: Estate
    hand: Hand
    name: str


@pytest.fixture(params=["memory", pytest.param("openstack", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    name = f"estate-{secrets.token_hex(4)}"
    if request.param == "memory":
        estate = MemoryEstate({"s-1": CloudObject(ObjectKind.MACHINE, "s-1", MACHINE)})
        yield Subject(estate, MemoryHand(estate), name)
        return
    cloud: CloudUnderTest = request.getfixturevalue("test_cloud")
    real, hand = OpenStackEstate(Account(cloud.admin, str(cloud.clouds_file))), OpenStackHand(cloud)
    yield Subject(real, hand, name)
    hand.clear_away()
    real.close()


def test_an_object_is_found_by_its_name_and_by_its_id(subject: Subject) -> None:
    id = subject.hand.network(subject.name)
    found = CloudObject(ObjectKind.NETWORK, id, subject.name)
    assert subject.estate.find(ObjectKind.NETWORK, subject.name) == found
    assert subject.estate.find(ObjectKind.NETWORK, id) == found


def test_a_name_that_nothing_or_several_have_is_refused(subject: Subject) -> None:
    with pytest.raises(UserError, match=subject.name):
        subject.estate.find(ObjectKind.NETWORK, subject.name)
    ids = [subject.hand.network(subject.name) for _ in range(2)]
    with pytest.raises(UserError) as caught:
        subject.estate.find(ObjectKind.NETWORK, subject.name)
    assert all(id in str(caught.value) for id in ids)


def test_users_are_told_with_their_ids_while_they_are_there(subject: Subject) -> None:
    one = subject.estate.find(ObjectKind.NETWORK, subject.hand.network(subject.name))
    assert list(subject.estate.users(one)) == []
    port = subject.hand.use(one.id)
    [told] = subject.estate.users(one)
    assert port in told


def test_what_is_deleted_is_gone_and_may_be_deleted_again(subject: Subject) -> None:
    one = subject.estate.find(ObjectKind.NETWORK, subject.hand.network(subject.name))
    assert subject.estate.stands(one)
    for _ in range(2):
        subject.estate.delete(one)
        assert not subject.estate.stands(one)


def test_a_machine_goes_out_of_service_and_comes_back(subject: Subject) -> None:
    machine = subject.estate.find(ObjectKind.MACHINE, MACHINE)
    assert subject.estate.in_service(machine)
    try:
        for _ in range(2):
            subject.estate.set_service(machine, on=False, reason="a test")
            assert not subject.estate.in_service(machine)
    finally:
        subject.estate.set_service(machine, on=True, reason="")
    assert subject.estate.in_service(machine)
