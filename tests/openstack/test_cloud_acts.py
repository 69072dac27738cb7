"""Flavors, images, networks and a machine in use: each refused with who uses it, allowed once nobody does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.adapters.clock import RandomIds, SystemClock
from pipeline.adapters.clouds.openstack import OpenStackCloud, OpenStackEstate
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_acts import CloudAct, ObjectKind, Verb
from pipeline.domain.inventory import MachineState
from pipeline.envs.books import Books
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

if TYPE_CHECKING:
    from openstack.connection import Connection

NAME = "acts"
#: A machine that poses, which is out of service for a moment.
MACHINE = "fake-3"

pytestmark = [pytest.mark.openstack, pytest.mark.machines, pytest.mark.timeout(240)]


@dataclass
class Scene:
    """A server of another project on the machine, with a flavor, an image and a network of its own."""

    acts: CloudActs
    books: Books
    inventories: Inventories
    other: Connection
    server: str

    def act(self, verb: Verb, kind: ObjectKind, name: str = NAME) -> CloudAct:
        """Ask, and what came of it."""
        id = self.acts.ask("cloud", verb, kind, name, Asking("alice", "a test")).id
        self.acts.carry_out(id)
        return self.books.cloud_acts.get(id).value

    @property
    def state(self) -> MachineState:
        return self.inventories.view("cloud").inventory.machine(MACHINE).state

    def end_server(self) -> None:
        self.other.compute.delete_server(self.server)
        self.other.compute.wait_for_delete(self.other.compute.get_server(self.server), wait=60)


@pytest.fixture
def scene(test_cloud: CloudUnderTest, tmp_path: Path) -> Iterator[Scene]:
    admin, other = (connection_of(test_cloud, name) for name in (test_cloud.admin, test_cloud.neighbour))
    with ExitStack() as stack:
        stack.callback(admin.close)
        stack.callback(other.close)
        flavor = admin.compute.create_flavor(name=NAME, vcpus=1, ram=64, disk=1)
        stack.callback(admin.compute.delete_flavor, flavor.id)
        image = admin.create_image(
            NAME, data=b"\0" * 1024, disk_format="raw", container_format="bare", visibility="public", wait=True
        )
        assert image is not None
        stack.callback(admin.image.delete_image, image.id)
        network = other.network.create_network(name=NAME)
        stack.callback(other.network.delete_network, network.id)
        other.network.create_subnet(network_id=network.id, ip_version=4, cidr="10.77.0.0/24", is_dhcp_enabled=False)
        zone = next(one.availability_zone for one in admin.compute.services(binary="nova-compute", host=MACHINE))
        server = admin.compute.create_server(
            name=NAME,
            flavor_id=flavor.id,
            image_id=image.id,
            networks=[{"uuid": network.id}],
            availability_zone=f"{zone}:{MACHINE}",
        )
        stack.callback(admin.compute.wait_for_delete, server, wait=60)
        stack.callback(admin.compute.delete_server, server.id)
        stack.callback(admin.compute.enable_service, None, MACHINE, "nova-compute")
        admin.compute.wait_for_server(server, wait=60)
        yield _scene(test_cloud, admin, server.id, tmp_path)


def _scene(test_cloud: CloudUnderTest, admin: Connection, server: str, locks: Path) -> Scene:
    clock = SystemClock()
    books = Books(MemoryStore(clock))
    gate = Gate(books, clock)
    inventories = Inventories(books, clock, gate)
    own, operator = (Account(name, str(test_cloud.clouds_file)) for name in (test_cloud.ours, test_cloud.admin))
    cloud = OpenStackCloud([own], operator)
    seen = cloud.look().inventory
    cloud.close()
    assert seen is not None
    inventories.sync("cloud", seen)
    driver = OpenStackDriver(NAME, own, {}, Terms(test_cloud.network, login=False), locks)
    provider = Provider("cloud", driver, MemoryTransport(clock), estate=OpenStackEstate(operator))
    leftovers = Leftovers(books, lambda _: provider, clock, NAME)
    removals = Removals(books, gate, clock)
    moving = MovingOff(books, inventories, gate, clock, NAME)
    acts = CloudActs(books, lambda _: provider, inventories, leftovers, removals, moving, gate, clock, RandomIds())
    return Scene(acts, books, inventories, admin, server)


def test_what_is_in_use_anywhere_is_refused_and_goes_when_nobody_uses_it(scene: Scene) -> None:
    kinds = (ObjectKind.FLAVOR, ObjectKind.IMAGE, ObjectKind.NETWORK)
    for kind in kinds:
        done = scene.act(Verb.DELETE, kind)
        assert done.refused == "in-use", done
        assert (scene.server in done.fault) is (kind is not ObjectKind.NETWORK)  # a port names its own id
    assert scene.act(Verb.RESTART_AGENT, ObjectKind.MACHINE, MACHINE).refused == "in-use"
    draining = scene.act(Verb.TAKE_OUT, ObjectKind.MACHINE, MACHINE)
    assert any(scene.server in one for one in draining.left)
    assert scene.state is MachineState.DRAINING

    scene.end_server()
    for kind in kinds:
        assert scene.act(Verb.DELETE, kind).outcome == f"{kind} {NAME} is deleted"
    out = scene.act(Verb.TAKE_OUT, ObjectKind.MACHINE, MACHINE)
    assert (out.left, out.fault, scene.state) == ((), "", MachineState.MAINTENANCE)
    assert scene.act(Verb.RESTART_AGENT, ObjectKind.MACHINE, MACHINE).outcome
    assert scene.act(Verb.PUT_BACK, ObjectKind.MACHINE, MACHINE).outcome
    assert scene.act(Verb.RESTART_AGENT, ObjectKind.MACHINE, MACHINE).refused == "out-of-service"
