"""What every estate keeps to: the docstrings of `pipeline.ports.clouds.Estate`, as tests."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pytest

from pipeline.adapters.clouds.memory import MemoryEstate
from pipeline.adapters.clouds.openstack import OpenStackEstate
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_acts import CloudObject, ObjectKind
from pipeline.domain.drift import Server
from pipeline.domain.errors import UserError
from pipeline.domain.moving_off import How, Trial
from pipeline.ports.clouds import Estate
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

#: A machine that poses, on which tests may let nothing new stand for a moment.
MACHINE = "fake-2"
#: The other one of its zone.
OTHER = "fake-1"
#: How long a server may take to move.
MOVE_S = 90.0


class Hand(Protocol):
    """Makes things beside the estate."""

    def network(self, name: str) -> str:
        """A network of that name; its id."""

    def use(self, network: str) -> str:
        """A port on it; its id."""

    def server(self, name: str, *, running: bool = True) -> str:
        """A server on `MACHINE`; its id."""


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

    def server(self, name: str, *, running: bool = True) -> str:
        id = f"id-{len(self.estate.servers)}"
        self.estate.servers[id] = Server(id, name, "active" if running else "shutoff", machine=MACHINE)
        return id


class OpenStackHand:
    """Removes at the end what it made."""

    def __init__(self, cloud: CloudUnderTest) -> None:
        self._connection = connection_of(cloud, cloud.ours)
        self._admin = connection_of(cloud, cloud.admin)
        self._cloud = cloud
        self._servers: list[str] = []
        self._networks: list[str] = []
        self._ports: list[str] = []

    def network(self, name: str) -> str:
        self._networks.append(self._connection.network.create_network(name=name).id)
        return self._networks[-1]

    def use(self, network: str) -> str:
        self._ports.append(self._connection.network.create_port(network_id=network).id)
        return self._ports[-1]

    def server(self, name: str, *, running: bool = True) -> str:
        compute = self._admin.compute
        zone = next(one.availability_zone for one in compute.services(binary="nova-compute", host=MACHINE))
        flavor = compute.find_flavor("m1.tiny", ignore_missing=False)
        image = self._admin.image.find_image(self._cloud.image, ignore_missing=False)
        asked = {"name": name, "flavor_id": flavor.id, "image_id": image.id, "networks": "none"}
        made = compute.create_server(**asked, availability_zone=f"{zone}:{MACHINE}")
        self._servers.append(made.id)
        compute.wait_for_server(made, wait=60)
        if not running:
            compute.stop_server(made.id)
            compute.wait_for_server(made, status="SHUTOFF", wait=60)
        return str(made.id)

    def clear_away(self) -> None:
        for server in self._servers:
            self._admin.compute.delete_server(server)
        self._admin.close()
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


@pytest.fixture(params=["memory", pytest.param("openstack", marks=[pytest.mark.openstack, pytest.mark.machines])])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    name = f"estate-{secrets.token_hex(4)}"
    if request.param == "memory":
        estate = MemoryEstate(
            {id: CloudObject(ObjectKind.MACHINE, id, name) for id, name in (("s-1", MACHINE), ("s-2", OTHER))}
        )
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


def test_a_machine_is_alive_while_its_agent_is(subject: Subject) -> None:
    machine = subject.estate.find(ObjectKind.MACHINE, MACHINE)
    assert subject.estate.alive(machine)
    try:
        subject.estate.count_as_dead(machine)
        assert not subject.estate.alive(machine)
    finally:
        subject.estate.set_service(machine, on=True, reason="")
    deadline = time.monotonic() + MOVE_S
    while not subject.estate.alive(machine) and time.monotonic() < deadline:
        time.sleep(1.0)
    assert subject.estate.alive(machine)


@pytest.mark.parametrize(("running", "how"), [(True, How.LIVE), (False, How.COLD)], ids=["live", "cold"])
def test_a_server_moves_to_another_machine_and_is_at_rest_there(subject: Subject, how: How, *, running: bool) -> None:
    estate = subject.estate
    id, machine = subject.hand.server(subject.name, running=running), estate.find(ObjectKind.MACHINE, MACHINE)
    assert estate.last_trial(id) is None
    assert [one.id for one in estate.servers_on(machine) if one.name == subject.name] == [id]
    before = at(estate, id).status
    try:
        estate.set_service(machine, on=False, reason="a test")
        estate.move(id, how)
        until_it_rests(estate, id)
        after, trial = at(estate, id), estate.last_trial(id)
    finally:
        estate.set_service(machine, on=True, reason="")
    assert (after.status, after.machine) == (before, OTHER)
    assert trial is not None
    assert (trial.over, trial.fault) == (True, "")
    assert id not in [one.id for one in estate.servers_on(machine)]


def test_a_server_that_cannot_move_stays_and_the_cloud_says_why(subject: Subject) -> None:
    estate = subject.estate
    id = subject.hand.server(subject.name)
    both = [estate.find(ObjectKind.MACHINE, name) for name in (MACHINE, OTHER)]
    try:
        for one in both:
            estate.set_service(one, on=False, reason="a test")
        estate.move(id, How.LIVE)
        trial = until_it_is_over(estate, id)
    finally:
        for one in both:
            estate.set_service(one, on=True, reason="")
    assert "No valid host" in trial.fault
    assert (at(estate, id).status, at(estate, id).machine) == ("active", MACHINE)


def test_there_is_no_server_of_an_id_that_none_has(subject: Subject) -> None:
    assert subject.estate.server("00000000-0000-4000-8000-000000000000") is None


def at(estate: Estate, id: str) -> Server:
    found = estate.server(id)
    assert found is not None
    return found


def until_it_rests(estate: Estate, id: str) -> None:
    """Elsewhere, and confirmed where that is asked for."""
    deadline = time.monotonic() + MOVE_S
    while at(estate, id).status not in {"active", "shutoff"} or at(estate, id).machine == MACHINE:
        if at(estate, id).status == "verify_resize":
            estate.confirm(id)
        assert time.monotonic() < deadline, estate.last_trial(id)
        time.sleep(0.5)


def until_it_is_over(estate: Estate, id: str) -> Trial:
    deadline = time.monotonic() + MOVE_S
    while (trial := estate.last_trial(id)) is None or not trial.over:
        assert time.monotonic() < deadline, trial
        time.sleep(0.5)
    return trial
