"""What every driver keeps to: the docstrings of `pipeline.ports.drivers`, as tests."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.drivers.static.beside import BesideDriver
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.clients.openstack import Account
from pipeline.domain.errors import CapacityError, PermanentError
from pipeline.domain.inventory import Inventory, Load, Machine, Zone, checked
from pipeline.domain.moments import NEVER
from pipeline.domain.qos import QosProfile
from pipeline.domain.registered import Use
from pipeline.domain.resources import Resources
from pipeline.envs.books import Books
from pipeline.envs.calls import CallLimits, WatchedDriver
from pipeline.ports.drivers import Driver, EnvironmentRequest, Listing, NodeRequest, NodeStatus, NodeView
from tests.plugins.libvirt_nodes import LibvirtNodes
from tests.plugins.local_nodes import Keys, LocalNodes, running_helper
from tests.plugins.openstack_cloud import CLOUD_LOOK_S, CloudUnderTest
from tests.plugins.registered_machines import IMAGE, OURS, Metal, in_memory, posing, registered
from tests.plugins.vagrant_nodes import VagrantNodes
from tests.plugins.vagrant_servers import vagrant_servers

ENDS_AT = 2_000_000_000.0
PATIENCE_S = 240.0
#: The quota of ports that our project has in the test cloud.
PORTS = 80
ZONE, MACHINE = "rack-a", "rack-a-1"


@dataclass
class Subject:
    """A driver to judge.

    `stranger` is a driver of another deployment at the same provider; `enlarge` makes a request that does not fit.
    `tells_machines`: the provider shows its machines and what they bear; else nothing is asked of them. `places`:
    nodes name the machine that they are to stand on; where each takes one whole, the driver chooses here. `look_s`: how
    often it is looked at while it builds.
    """

    driver: Driver
    stranger: Driver
    deployment: str
    image: str
    keys: Keys
    enlarge: Callable[[EnvironmentRequest], EnvironmentRequest]
    tells_machines: bool = True
    places: bool = True
    look_s: float = 0.01
    _made: Iterator[int] = field(default_factory=itertools.count)

    def fresh_id(self) -> str:
        """Name an environment as nobody did before."""
        return f"contract-{next(self._made)}"

    def request(self, *names: str, environment_id: str | None = None) -> EnvironmentRequest:
        resources = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)
        machine = MACHINE if self.places else ""
        nodes = tuple(
            NodeRequest(
                name, "web", self.image, resources, QosProfile(), self.keys.host, self.keys.host_public, machine, ZONE
            )
            for name in names
        )
        return EnvironmentRequest(
            self.deployment, environment_id or self.fresh_id(), "shop", self.keys.login_public, ENDS_AT, nodes
        )

    def nodes(self, environment_id: str) -> dict[str, NodeView]:
        """The environment's nodes; the listing must not name one twice."""
        views = [view for view in self.driver.list().nodes if view.environment_id == environment_id]
        assert len({view.name for view in views}) == len(views)
        return {view.name: view for view in views}

    def settled(self, environment_id: str) -> dict[str, NodeView]:
        """The environment's nodes when none is building any more."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            views = self.nodes(environment_id)
            if all(view.status is not NodeStatus.BUILDING for view in views.values()):
                return views
            assert time.monotonic() < deadline, views
            time.sleep(self.look_s)

    def environments(self) -> dict[str, float]:
        return {owned.environment_id: owned.ends_at for owned in self.driver.list().environments}


@pytest.fixture(
    params=[
        "memory",
        "watched",
        "static",
        "beside",
        pytest.param("static_nodes", marks=pytest.mark.local),
        pytest.param("local", marks=pytest.mark.local),
        pytest.param("openstack", marks=pytest.mark.openstack),
        pytest.param("vagrant", marks=pytest.mark.vagrant),
        pytest.param("libvirt", marks=[pytest.mark.libvirt, pytest.mark.timeout(300)]),
        pytest.param("vagrant_servers", marks=[pytest.mark.vagrant, pytest.mark.openstack, pytest.mark.timeout(600)]),
    ]
)
def subject(request: pytest.FixtureRequest, node_keys: Keys) -> Iterator[Subject]:
    made: Subject = request.getfixturevalue(f"{request.param}_subject")
    yield made
    for environment_id in made.environments():
        made.driver.destroy(environment_id)


@pytest.fixture
def memory_subject(node_keys: Keys) -> Subject:
    images = frozenset({"plain", "rich"})
    reported = Inventory((Machine(MACHINE, ZONE, {"vcpu": 4.0}, images=images),), (Zone(ZONE),))
    cloud = MemoryCloud(room=12, inventory=reported, loads={MACHINE: Load(time.time(), {"vcpu": 0.1})})
    driver, stranger = (MemoryDriver(cloud, deployment, images=["plain", "rich"]) for deployment in ("ours", "theirs"))

    def enlarge(request: EnvironmentRequest) -> EnvironmentRequest:
        return replace(request, nodes=tuple(replace(request.nodes[0], name=f"web-{i}") for i in range(13)))

    return Subject(driver, stranger, "ours", "plain", node_keys, enlarge)


@pytest.fixture
def watched_subject(memory_subject: Subject) -> Subject:
    """The memory driver behind breakers and limits."""
    clock = SystemClock()
    books = Books(MemoryStore(clock))
    driver = WatchedDriver(
        "ours", memory_subject.driver, books, clock, CallLimits(max_deletes=12, calls_per_s=10_000.0)
    )
    return replace(memory_subject, driver=driver)


@pytest.fixture
def static_subject(node_keys: Keys) -> Subject:
    """Registered machines that exist as entries alone."""
    return _static(in_memory(12), node_keys)


@pytest.fixture
def beside_subject(memory_subject: Subject) -> Subject:
    """The memory driver with registered machines beside its own."""
    metal = in_memory(0)
    metal.stand(replace(registered("b1"), images=frozenset({"plain", "rich"})))
    made, stranger = memory_subject.driver, memory_subject.stranger
    ours, theirs = BesideDriver(made, metal.driver()), BesideDriver(stranger, metal.driver("theirs"))
    return replace(memory_subject, driver=ours, stranger=theirs)


@pytest.fixture
def static_nodes_subject(local_nodes: LocalNodes) -> Iterator[Subject]:
    """Registered machines that are local nodes."""
    with posing(local_nodes, 8) as (metal, machines):
        metal.stand(*(replace(one, use=Use.FREE) for one in machines))
        yield _static(metal, local_nodes.keys)


def _static(metal: Metal, keys: Keys) -> Subject:
    def enlarge(request: EnvironmentRequest) -> EnvironmentRequest:
        return replace(request, nodes=tuple(replace(request.nodes[0], name=f"web-{i}") for i in range(13)))

    ours, stranger = metal.driver(), metal.driver("theirs")
    return Subject(ours, stranger, OURS, IMAGE, keys, enlarge, tells_machines=False, places=False)


def too_large(request: EnvironmentRequest) -> EnvironmentRequest:
    """More memory than a machine has."""
    much = Resources(vcpu=1, memory_mib=1 << 24, disk_gib=1)
    return replace(request, nodes=(replace(request.nodes[0], resources=much),))


@pytest.fixture
def local_subject(local_nodes: LocalNodes, local_stranger: LocalNodes) -> Subject:
    helper = local_nodes.helper
    return Subject(helper.driver, local_stranger.driver, helper.deployment, "debian-12", local_nodes.keys, too_large)


@pytest.fixture(scope="module")
def local_stranger(local_nodes: LocalNodes) -> Iterator[LocalNodes]:
    with running_helper() as helper:
        yield LocalNodes(helper, local_nodes.keys)


@pytest.fixture(scope="module")
def openstack_drivers(
    test_cloud: CloudUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[OpenStackDriver]]:
    """Ours and a stranger's, which keep their connections."""
    account = Account(test_cloud.ours, str(test_cloud.clouds_file))
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    locks = tmp_path_factory.mktemp("locks")
    made = [OpenStackDriver(name, account, {}, terms, locks) for name in ("contractours", "contracttheirs")]
    yield made
    for driver in made:
        driver.close()


@pytest.fixture
def openstack_subject(openstack_drivers: list[OpenStackDriver], node_keys: Keys) -> Subject:
    ours, theirs = openstack_drivers

    def enlarge(request: EnvironmentRequest) -> EnvironmentRequest:
        return replace(request, nodes=tuple(replace(request.nodes[0], name=f"web-{i}") for i in range(PORTS + 1)))

    return Subject(ours, theirs, "contractours", "plain", node_keys, enlarge, tells_machines=False, look_s=CLOUD_LOOK_S)


@pytest.fixture
def vagrant_subject(vagrant_nodes: VagrantNodes, node_keys: Keys) -> Subject:
    ours, stranger = vagrant_nodes.driver(), vagrant_nodes.driver("theirs")
    return Subject(ours, stranger, vagrant_nodes.deployment, "debian-12", node_keys, too_large, tells_machines=False)


@pytest.fixture
def libvirt_subject(libvirt_nodes: LibvirtNodes, node_keys: Keys) -> Subject:
    """Guests that have too little memory to come far: to libvirt they run all the same, and processors are emulated."""
    ours, stranger = libvirt_nodes.driver(), libvirt_nodes.driver("theirs")
    return Subject(ours, stranger, libvirt_nodes.deployment, "debian-12", node_keys, too_large, tells_machines=False)


@pytest.fixture
def vagrant_servers_subject(test_cloud: CloudUnderTest, node_keys: Keys, tmp_path: Path) -> Subject:
    """Provider `openstack` of Vagrant, with the plugin for tests."""
    deployment = f"vs{secrets.token_hex(4)}"
    ours, theirs = (vagrant_servers(test_cloud, name, tmp_path / name) for name in (deployment, f"{deployment}x"))

    def enlarge(request: EnvironmentRequest) -> EnvironmentRequest:
        return replace(request, nodes=tuple(replace(request.nodes[0], name=f"web-{i}") for i in range(PORTS + 1)))

    return Subject(ours, theirs, deployment, "plain", node_keys, enlarge, tells_machines=False, look_s=CLOUD_LOOK_S)


@pytest.fixture
def tells_machines(subject: Subject) -> None:
    if not subject.tells_machines:
        pytest.skip("the provider does not tell an ordinary account of its machines")


def names_of(views: dict[str, NodeView]) -> list[str]:
    return sorted(views)


def statuses(views: dict[str, NodeView]) -> set[NodeStatus]:
    return {view.status for view in views.values()}


def test_created_nodes_become_active(subject: Subject) -> None:
    request = subject.request("web-0", "web-1", "db-0")
    subject.driver.create(request)
    views = subject.settled(request.environment_id)
    assert names_of(views) == ["db-0", "web-0", "web-1"]
    assert statuses(views) == {NodeStatus.ACTIVE}
    assert len({view.driver_id for view in views.values()}) == 3
    assert len({(view.address, view.port) for view in views.values() if view.address}) in (0, 3)


def test_nodes_that_can_be_logged_in_to_have_an_address(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    address = subject.settled(request.environment_id)["web-0"].address
    assert bool(address) or not subject.driver.capabilities.login


def test_an_environment_carries_its_mark(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    assert subject.environments() == {request.environment_id: ENDS_AT}


def test_a_mark_tells_the_end_that_it_was_given_last(subject: Subject) -> None:
    request, other = subject.request("web-0", "web-1"), subject.request("web-0")
    subject.driver.create(request)
    subject.driver.create(other)
    before = subject.settled(request.environment_id)
    for ends_at in (ENDS_AT + 3600, ENDS_AT - 3600, NEVER):
        subject.driver.mark_end(request.environment_id, ends_at)
        subject.driver.mark_end(request.environment_id, ends_at)
        assert subject.environments() == {request.environment_id: ends_at, other.environment_id: ENDS_AT}
    assert subject.nodes(request.environment_id) == before
    subject.driver.create(replace(request, ends_at=NEVER))
    assert subject.settled(request.environment_id) == before
    subject.driver.destroy(request.environment_id)
    assert subject.environments() == {other.environment_id: ENDS_AT}


def test_what_never_was_has_no_mark(subject: Subject) -> None:
    subject.driver.mark_end(subject.fresh_id(), ENDS_AT)
    assert subject.environments() == {}


def test_create_may_be_repeated(subject: Subject) -> None:
    request = subject.request("web-0", "web-1")
    subject.driver.create(request)
    before = subject.settled(request.environment_id)
    subject.driver.create(request)
    assert subject.settled(request.environment_id) == before


def test_create_makes_what_is_missing_and_leaves_the_rest_alone(subject: Subject) -> None:
    small = subject.request("web-0")
    subject.driver.create(small)
    before = subject.settled(small.environment_id)
    subject.driver.create(subject.request("web-0", "web-1", environment_id=small.environment_id))
    after = subject.settled(small.environment_id)
    assert names_of(after) == ["web-0", "web-1"]
    assert after["web-0"] == before["web-0"]


def test_create_at_the_same_time_makes_each_node_once(subject: Subject) -> None:
    request = subject.request("web-0", "web-1")
    at_once(subject.driver.create, [request, request, request])
    views = subject.settled(request.environment_id)
    assert names_of(views) == ["web-0", "web-1"]
    assert statuses(views) == {NodeStatus.ACTIVE}


def test_environments_may_be_made_at_the_same_time(subject: Subject) -> None:
    requests = [subject.request("web-0") for _ in range(4)]
    at_once(subject.driver.create, requests)
    assert sorted(subject.environments()) == sorted(request.environment_id for request in requests)
    addresses = {subject.settled(request.environment_id)["web-0"].address for request in requests}
    assert len(addresses) == 4 or not subject.driver.capabilities.login


def test_destroy_some_nodes(subject: Subject) -> None:
    request = subject.request("web-0", "web-1", "web-2")
    subject.driver.create(request)
    before = subject.settled(request.environment_id)
    subject.driver.destroy(request.environment_id, ["web-1", "web-2"])
    assert subject.nodes(request.environment_id) == {"web-0": before["web-0"]}
    assert request.environment_id in subject.environments()


def test_a_destroyed_node_can_be_made_again(subject: Subject) -> None:
    request = subject.request("web-0", "web-1")
    subject.driver.create(request)
    subject.driver.destroy(request.environment_id, ["web-1"])
    subject.driver.create(request)
    views = subject.settled(request.environment_id)
    assert names_of(views) == ["web-0", "web-1"]
    assert statuses(views) == {NodeStatus.ACTIVE}


def test_destroy_an_environment(subject: Subject) -> None:
    kept, ended = subject.request("web-0"), subject.request("web-0", "web-1")
    for request in (kept, ended):
        subject.driver.create(request)
    subject.driver.destroy(ended.environment_id)
    assert subject.nodes(ended.environment_id) == {}
    assert list(subject.environments()) == [kept.environment_id]
    assert statuses(subject.settled(kept.environment_id)) == {NodeStatus.ACTIVE}


def test_destroy_of_all_nodes_by_name_leaves_the_environment(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    subject.driver.destroy(request.environment_id, ["web-0"])
    assert subject.nodes(request.environment_id) == {}
    subject.driver.destroy(request.environment_id)
    assert subject.environments() == {}


def test_destroy_may_be_repeated(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    at_once(subject.driver.destroy, [request.environment_id] * 3)
    subject.driver.destroy(request.environment_id)
    assert subject.environments() == {}


def test_destroy_of_what_never_was(subject: Subject) -> None:
    nobody = subject.fresh_id()
    subject.driver.destroy(nobody)
    subject.driver.destroy(nobody, ["web-0"])
    assert nobody not in subject.environments()


def test_a_destroyed_environment_can_be_made_again(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    subject.driver.destroy(request.environment_id)
    subject.driver.create(request)
    assert statuses(subject.settled(request.environment_id)) == {NodeStatus.ACTIVE}


def test_another_deployment_sees_and_touches_nothing(subject: Subject) -> None:
    request = subject.request("web-0")
    subject.driver.create(request)
    before = subject.settled(request.environment_id)
    assert subject.stranger.list() == Listing()
    subject.stranger.destroy(request.environment_id, ["web-0"])
    subject.stranger.destroy(request.environment_id)
    subject.stranger.mark_end(request.environment_id, ENDS_AT + 3600)
    assert subject.environments() == {request.environment_id: ENDS_AT}
    assert subject.nodes(request.environment_id) == before


def test_an_unknown_image_is_never_going_to_work(subject: Subject) -> None:
    request = subject.request("web-0")
    wrong = replace(request, nodes=(replace(request.nodes[0], image="no-such-image"),))
    with pytest.raises(PermanentError, match="no-such-image") as caught:
        subject.driver.create(wrong)
    assert all(image in str(caught.value) for image in subject.driver.capabilities.images)
    subject.driver.destroy(request.environment_id)
    assert subject.environments() == {}


def test_the_image_of_the_nodes_is_offered(subject: Subject) -> None:
    assert subject.image in subject.driver.capabilities.images


@pytest.mark.usefixtures("tells_machines")
def test_a_node_stands_where_it_was_put(subject: Subject) -> None:
    request = subject.request("web-0", "web-1")
    subject.driver.create(request)
    assert {view.machine for view in subject.settled(request.environment_id).values()} == {MACHINE}


@pytest.mark.usefixtures("tells_machines")
def test_a_reported_inventory_makes_sense_and_names_the_images_at_hand(subject: Subject) -> None:
    inventory = subject.driver.inventory()
    assert inventory is not None
    assert checked(inventory).machine(MACHINE).zone == ZONE
    assert inventory.machine(MACHINE).images == set(subject.driver.capabilities.images)


@pytest.mark.usefixtures("tells_machines")
def test_loads_are_told_of_the_machines_that_are_asked_for(subject: Subject) -> None:
    inventory = subject.driver.inventory()
    assert inventory is not None
    deadline = time.monotonic() + PATIENCE_S
    while not (loads := subject.driver.loads(inventory.machines)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert loads.keys() == {machine.name for machine in inventory.machines}
    for load in loads.values():
        assert 0 < load.at <= time.time()
        assert load.used
        assert all(0 <= share < 1000 for share in load.used.values())
    assert subject.driver.loads([]) == {}


def test_nothing_is_wrong_with_a_provider_that_works(subject: Subject) -> None:
    assert list(subject.driver.check()) == []


def test_what_does_not_fit_waits(subject: Subject) -> None:
    request = subject.request("web-0")
    with pytest.raises(CapacityError):
        subject.driver.create(subject.enlarge(request))
    subject.driver.destroy(request.environment_id)
    assert subject.environments() == {}


def at_once(act: Callable[..., object], arguments: Sequence[object]) -> None:
    """Call with each argument in a thread of its own; raises what one of them raised."""
    with ThreadPoolExecutor(len(arguments)) as pool:
        for future in [pool.submit(act, argument) for argument in arguments]:
            future.result(PATIENCE_S)
