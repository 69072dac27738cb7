"""A machine goes out with servers of ours and of others on it: they move, the books follow; a dead one loses ours."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
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
from pipeline.domain.blueprint import Priority
from pipeline.domain.cloud_acts import CloudAct, CloudObject, ObjectKind, Verb
from pipeline.domain.drift import Row
from pipeline.domain.environments import Environment, EnvironmentState, Node, NodeState, Purpose
from pipeline.domain.inventory import MachineState
from pipeline.domain.moving_off import MoveState, Policy
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.envs.books import Books
from pipeline.envs.cloud_acts import CloudActs
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.leftovers import Leftovers
from pipeline.envs.moving_off import MovingOff
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.envs.surveys import Surveys
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.openstack.cloud import plane
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import of_environment
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, clouds_file, connection_of

if TYPE_CHECKING:
    from openstack.connection import Connection

OURS, ENVIRONMENT, ZONE = "moving", "env-moving", "rack-A-2"
NAMES = ("web-0", "web-1")
SMALL = Resources(1, 64, 1)
PATIENCE_S = 150.0
#: Starts an agent of the test cloud.
AGAIN = """
import sys
from tests.openstack.cloud import plane
from tests.openstack.cloud.processes import Processes
from tests.openstack.cloud.state import of_environment
state = of_environment()
processes = Processes(state.run / "pids", state.logs, plane.environment(state))
plane.start_compute(state, processes, sys.argv[1], "compute-posing.conf", {})
"""
WHY = Asking("alice", "a new kernel", {"last-node": "it stays up"})

pytestmark = [pytest.mark.openstack, pytest.mark.machines, pytest.mark.timeout(400)]


@dataclass
class Scene:
    """Two nodes of ours in one zone, and a server of somebody else on the machine of the first."""

    acts: CloudActs
    books: Books
    surveys: Surveys
    inventories: Inventories
    admin: Connection
    estate: OpenStackEstate
    stranger: str
    machine: str

    def out(self, policy: Policy, asking: Asking = WHY, at_once: int = 2) -> CloudAct:
        """Ask, and step as the tick would."""
        name = self.machine
        id = self.acts.ask("cloud", Verb.TAKE_OUT, ObjectKind.MACHINE, name, asking, policy, at_once).id
        wait_for(lambda: self._step(id), f"the end of {policy}")
        return self.books.cloud_acts.get(id).value

    def _step(self, id: str) -> bool:
        self.acts.carry_out(id)
        return self.books.cloud_acts.get(id).value.finished_at is not None

    def back(self) -> CloudAct:
        id = self.acts.ask("cloud", Verb.PUT_BACK, ObjectKind.MACHINE, self.machine, WHY).id
        self.acts.carry_out(id)
        return self.books.cloud_acts.get(id).value

    def rows(self) -> dict[str, Row]:
        """The nodes of ours as `greenroom servers` tells them."""
        self.surveys.survey("cloud", takes_over=False)
        survey = self.surveys.last("cloud")
        assert survey is not None
        return {row.node.name: row for row in survey.rows if row.environment == ENVIRONMENT and row.node is not None}

    @property
    def state(self) -> MachineState:
        return self.inventories.view("cloud").inventory.machine(self.machine).state


def wait_for(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(1.0)


@pytest.fixture
def scene(test_cloud: CloudUnderTest, node_keys: Keys, tmp_path: Path) -> Iterator[Scene]:
    admin = connection_of(test_cloud, test_cloud.admin)
    own, operator = (Account(name, str(test_cloud.clouds_file)) for name in (test_cloud.ours, test_cloud.admin))
    cloud, estate = OpenStackCloud([own], operator), OpenStackEstate(operator)
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    driver = OpenStackDriver(OURS, own, {}, terms, tmp_path)
    with ExitStack() as stack:
        for one in (admin, cloud, estate, driver):
            stack.callback(one.close)
        stack.callback(driver.destroy, ENVIRONMENT)
        deliver(driver, node_keys)
        sight = cloud.look()
        ours = {one.node: one for one in sight.servers if one.environment_id == ENVIRONMENT}
        machine = ours["web-0"].machine
        stranger = a_strangers_server(test_cloud, admin, machine)
        stack.callback(admin.compute.delete_server, stranger)
        clock = SystemClock()
        books = Books(MemoryStore(clock))
        gate = Gate(books, clock)
        inventories = Inventories(books, clock, gate)
        assert sight.inventory is not None
        inventories.sync("cloud", sight.inventory)
        nodes = tuple(
            Node(
                name, "web", "plain", SMALL, state=NodeState.IN_SERVICE, driver_id=ours[name].id, zone=ZONE,
                machine=ours[name].machine, address=ours[name].address,
            )
            for name in NAMES
        )  # fmt: skip
        made = Environment(
            ENVIRONMENT, "team", "shop", "", "cloud", EnvironmentState.LEASED, nodes, Priority.PUSH, 0.0, 0.0, 2e9,
            purpose=Purpose.STAGING,
        )  # fmt: skip
        books.commit(books.environments.kind.put(ENVIRONMENT, made, 0))
        provider = Provider("cloud", driver, MemoryTransport(clock), cloud=cloud, estate=estate)
        acts = CloudActs(
            books,
            lambda _: provider,
            inventories,
            Leftovers(books, lambda _: provider, clock, OURS),
            Removals(books, gate, clock),
            MovingOff(books, inventories, gate, clock, OURS),
            gate,
            clock,
            RandomIds(),
        )
        surveys = Surveys(books, lambda _: provider, inventories, clock, OURS, lambda _: None)
        stack.callback(admin.compute.enable_service, None, machine, "nova-compute")
        yield Scene(acts, books, surveys, inventories, admin, estate, stranger, machine)


def deliver(driver: OpenStackDriver, keys: Keys) -> None:
    nodes = tuple(
        NodeRequest(name, "web", "plain", SMALL, QosProfile(), keys.host, keys.host_public, zone=ZONE) for name in NAMES
    )
    driver.create(EnvironmentRequest(OURS, ENVIRONMENT, "shop", keys.login_public, time.time() + 3600, nodes))
    wait_for(lambda: [one.status for one in driver.nodes()] == [NodeStatus.ACTIVE] * 2, "two nodes")


def a_strangers_server(cloud: CloudUnderTest, admin: Connection, machine: str) -> str:
    made = admin.compute.create_server(
        name="strange",
        flavor_id=admin.compute.find_flavor("m1.tiny", ignore_missing=False).id,
        image_id=admin.image.find_image(cloud.image, ignore_missing=False).id,
        networks="none",
        availability_zone=f"{ZONE}:{machine}",
    )
    admin.compute.wait_for_server(made, wait=60)
    return str(made.id)


def test_all_servers_leave_and_the_books_follow_ours(scene: Scene) -> None:
    scene.admin.compute.stop_server(scene.stranger)
    wait_for(lambda: scene.admin.compute.get_server(scene.stranger).status == "SHUTOFF", "a server that is off")
    dry = scene.out(Policy.MIGRATE, replace(WHY, dry_run=True))
    assert {one.state for one in dry.moves} == {MoveState.WAITING}
    assert scene.state is MachineState.IN_SERVICE

    done = scene.out(Policy.MIGRATE, at_once=1)
    assert {one.state for one in done.moves} == {MoveState.MOVED}, done
    assert {one.server for one in dry.moves} == {one.server for one in done.moves} >= {scene.stranger}
    assert (done.left, done.fault, scene.state) == ((), "", MachineState.MAINTENANCE)
    elsewhere = scene.admin.compute.get_server(scene.stranger)
    assert elsewhere.compute_host != scene.machine
    assert elsewhere.status == "SHUTOFF"
    for row in scene.rows().values():
        assert row.node is not None
        assert row.server is not None
        assert row.alerts == ()
        assert row.node.machine == row.server.machine != scene.machine
    assert scene.back().outcome


def test_where_nothing_has_room_each_server_is_named_with_novas_words(scene: Scene) -> None:
    others = [one for one in scene.admin.compute.services(binary="nova-compute") if one.availability_zone == ZONE]
    machines = [CloudObject(ObjectKind.MACHINE, one.id, one.host) for one in others]
    try:
        for one in machines:
            scene.estate.set_service(one, on=False, reason="a test")
        done = scene.out(Policy.MIGRATE)
    finally:
        for one in machines:
            scene.estate.set_service(one, on=True, reason="")
    assert {one.state for one in done.moves} == {MoveState.FAILED}, done
    assert all("No valid host" in one.fault for one in done.moves)
    assert any(scene.stranger in one for one in done.left)
    assert scene.state is MachineState.DRAINING


@pytest.fixture
def dies(scene: Scene) -> Iterator[Callable[[], None]]:
    """Ends the agent of the scene's machine; it lives again afterwards."""
    state = of_environment()
    if clouds_file() != state.clouds:
        pytest.skip("the cloud is not our own: none of its agents may die")
    processes = Processes(state.run / "pids", state.logs, plane.environment(state))
    yield lambda: processes.stop([f"compute-{scene.machine}"], signal.SIGKILL, 10.0)
    # by a process of its own, which leaves it behind
    subprocess.run([sys.executable, "-c", AGAIN, scene.machine], check=True, capture_output=True, timeout=60)
    wait_for(lambda: not scene.back().fault, "a machine that may come back")
    machine = scene.estate.find(ObjectKind.MACHINE, scene.machine)
    wait_for(lambda: scene.estate.alive(machine), "an agent that lives")


def test_ours_are_built_elsewhere_when_the_machine_is_dead(scene: Scene, dies: Callable[[], None]) -> None:
    ours = {one.node: one for one in scene.estate.servers_on(scene.estate.find(ObjectKind.MACHINE, scene.machine))}
    refused = scene.out(Policy.EVACUATE)
    assert (refused.refused, scene.state) == ("dead", MachineState.IN_SERVICE)
    dies()
    fenced = replace(WHY, overrides={**WHY.overrides, "dead": "its power is off"})
    done = scene.out(Policy.EVACUATE, fenced)
    states = {one.server: one.state for one in done.moves}
    assert states.pop(scene.stranger) is MoveState.REFUSED
    assert set(states.values()) == {MoveState.MOVED}, [f"{one}: {one.fault}" for one in done.moves]
    assert ours["web-0"].id in states
    assert [scene.stranger in one for one in done.left] == [True]
    row = scene.rows()["web-0"]
    assert row.server is not None
    assert row.node is not None
    assert (row.node.state, row.server.id) == (NodeState.LOST, ours["web-0"].id)
    assert row.node.machine == row.server.machine != scene.machine
