"""Whole deliveries through a proxy that spoils answers anywhere: ready in the end or failed clean, and then gone."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Mark, described, named_group
from pipeline.clients.openstack.marks import DEPLOYMENT, ENVIRONMENT
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.errors import TransientError
from pipeline.domain.milestones import Deadlines
from pipeline.domain.resources import Resources
from pipeline.domain.rules import EnvironmentRules, PlacementRules, Spread
from pipeline.envs.books import Books
from pipeline.envs.calls import CallLimits, WatchedDriver
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.lifecycle import Lifecycle
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.scenarios.world import ClearSecrets
from tests.tools.faulty_cloud import account_behind, upstream_of
from tests.tools.faulty_proxy import (
    Fault,
    FaultyProxy,
    Spoil,
    down_for,
    faulty_proxy,
    says,
    silent_after,
    slow,
    truncated,
)
from tests.tools.lifecycles import lifecycle_of

if TYPE_CHECKING:
    from openstack.connection import Connection

OURS = "spoilt"
#: Deliveries at a time.
AT_ONCE = 4
SMALL = Resources(1, 64, 1)
SEED = 20261127
#: A whole delivery and its end make more calls than this, so that a fault at any of them happens.
CALLS = 24
DOWN_S = 60.0
#: How long one delivery or one end may take with its faults: a breaker that opened again and again pauses the longest.
PATIENCE_S = 300.0
SETTLED = frozenset({EnvironmentState.LEASED, EnvironmentState.DESTROYED})
ANY = r"^/(compute|network)/"
Kind = tuple[str, Callable[[], Spoil], int]
#: Each kind, and how many calls of a delivery meet it; the longest first.
KINDS: list[Kind] = [
    ("down for a minute", lambda: down_for(DOWN_S), 1),
    ("500", lambda: says(500), 3),
    ("429", lambda: says(429, Retry_After="1"), 3),
    ("a timeout after success", lambda: silent_after, 3),
    ("a slow answer", lambda: slow, 4),
    ("truncated JSON", lambda: truncated, 3),
    ("an expired token", lambda: says(401), 3),
]

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(700)]


@dataclass
class Scene:
    """One environment of three nodes, which two roles share, before anything of it is built."""

    id: str
    books: Books
    lifecycle: Lifecycle
    removals: Removals
    proxy: FaultyProxy

    @property
    def environment(self) -> Environment:
        return self.books.environments.get(self.id).value

    def until_settled(self) -> EnvironmentState:
        """Advance as the poller would."""
        deadline = time.monotonic() + PATIENCE_S
        while self.environment.state not in SETTLED:
            if time.monotonic() > deadline:
                break
            with suppress(TransientError):  # the job fails, and the next one comes
                if self.environment.state is EnvironmentState.RESERVED:
                    self.lifecycle.advance(self.id)
                else:
                    self.lifecycle.poll("cloud")
            time.sleep(1.0)
        return self.environment.state

    def end(self) -> None:
        loaded = self.books.environments.get(self.id)
        begun = self.removals.begin(loaded.value, Asking("alice", "it was a test"))
        put = self.books.environments.kind.put(self.id, begun.environment, loaded.version)
        self.books.commit(put, *begun.writes, events=begun.events)


@pytest.fixture(scope="module")
def connection(test_cloud: CloudUnderTest) -> Iterator[Connection]:
    made = connection_of(test_cloud, test_cloud.ours)
    yield made
    made.close()


@pytest.fixture(scope="module")
def neighbours(connection: Connection, test_cloud: CloudUnderTest) -> Iterator[set[str]]:
    """Things of others in the same project, some of them of another deployment that calls its environment the same."""
    net, compute, mark = connection.network, connection.compute, Mark("somebody", id_of(KINDS[0][0]))
    network = net.find_network(test_cloud.network, ignore_missing=False)
    with ExitStack() as stack:
        made: list[Any] = []
        for description in ("", mark.description):
            group = net.create_security_group(name="neighbour", description=description)
            stack.callback(net.delete_security_group, group.id)
            port = net.create_port(network_id=network.id, description=description, security_groups=[group.id])
            stack.callback(net.delete_port, port.id)
            made += [group, port]
        apart = compute.create_server_group(name=mark.group_of("web"), policy="soft-anti-affinity")
        stack.callback(compute.delete_server_group, apart.id)
        server = compute.create_server(
            name="web-0",
            image_id=connection.image.find_image(test_cloud.image, ignore_missing=False).id,
            flavor_id=compute.find_flavor("m1.tiny", ignore_missing=False).id,
            networks=[{"port": made[-1].id}],
            metadata={DEPLOYMENT: "somebody", ENVIRONMENT: mark.environment_id},
        )
        stack.callback(compute.wait_for_delete, server, wait=60)
        stack.callback(compute.delete_server, server.id)
        compute.wait_for_server(server, wait=60)
        yield {one.id for one in (*made, apart, server)}


def id_of(kind: str) -> str:
    return f"env-{kind.lower().replace(' ', '-')}"


@contextmanager
def spoilt(cloud: CloudUnderTest, id: str, folder: Path) -> Iterator[Scene]:
    """A scene behind a proxy of its own; whatever is left of it goes at the end."""
    folder.mkdir()
    with faulty_proxy(upstream_of(cloud)) as proxy:
        terms = Terms(cloud.network, images={"plain": cloud.image}, login=False)
        driver = OpenStackDriver(OURS, account_behind(proxy, cloud, folder), {}, terms, folder / "locks")
        try:
            yield _scene(id, proxy, driver)
        finally:
            proxy.faults.clear()
            driver.destroy(id)
            driver.close()


def _scene(id: str, proxy: FaultyProxy, driver: OpenStackDriver) -> Scene:
    clock = SystemClock()
    books = Books(MemoryStore(clock))
    gate = Gate(books, clock)
    inventories = Inventories(books, clock, gate)
    watched = WatchedDriver("cloud", driver, books, clock, CallLimits())
    provider = Provider("cloud", watched, MemoryTransport(clock), deadlines=Deadlines(600.0))
    removals = Removals(books, gate, clock)
    lifecycle = lifecycle_of(provider, books, removals, inventories, clock, ClearSecrets(), OURS)
    nodes = tuple(Node(name, name.rpartition("-")[0], "plain", SMALL) for name in ("web-0", "web-1", "db-0"))
    now = clock.now()
    rules = EnvironmentRules({"web": PlacementRules(spread=Spread.MACHINE)})
    made = Environment(
        id, "team", "shop", "run-1", "cloud", EnvironmentState.RESERVED, nodes, Priority.PUSH, now, now, now + 3600,
        rules=rules,
    )  # fmt: skip
    books.commit(books.environments.kind.put(id, made, 0))
    return Scene(id, books, lifecycle, removals, proxy)


def ids(connection: Connection) -> set[str]:
    """Everything in the project that a delivery could have made."""
    net, compute = connection.network, connection.compute
    return {one.id for one in (*net.security_groups(), *net.ports(), *compute.servers(), *compute.server_groups())}


def left_of_ours(connection: Connection, id: str) -> list[str]:
    net, compute, mark = connection.network, connection.compute, Mark(OURS, id)
    named = [one for one in (*net.security_groups(), *net.ports()) if described(one.description) == mark]
    apart = [one for one in compute.server_groups() if named_group(one.name) == mark]
    return [f"{one.name} ({one.id})" for one in (*named, *apart)] + servers_of(connection, id)


def servers_of(connection: Connection, id: str) -> list[str]:
    mark = {DEPLOYMENT: OURS, ENVIRONMENT: id}
    return [one.name for one in connection.compute.servers() if mark.items() <= one.metadata.items()]


def deliver(cloud: CloudUnderTest, kind: Kind, folder: Path) -> str:
    """Deliver one and destroy it with faults of one kind anywhere; what is wrong with how that went, if anything."""
    name, spoil, times = kind
    dice = random.Random(f"{SEED} {name}")
    in_a_row = 1000 if times == 1 else 1
    with spoilt(cloud, id_of(name), folder) as scene, closing(connection_of(cloud, cloud.ours)) as connection:
        scene.proxy.faults = [
            Fault(name, "GET|POST|DELETE", ANY, spoil(), times=in_a_row, after=at)
            for at in sorted(dice.sample(range(CALLS), times))
        ]
        built = scene.until_settled()
        if built is EnvironmentState.LEASED:
            servers = sorted(servers_of(connection, scene.id))
            if servers != ["db-0", "web-0", "web-1"]:
                return f"not each of its servers is there once: {servers}"
            scene.end()
            built = scene.until_settled()
        elif built is EnvironmentState.DESTROYED and not scene.environment.fault:
            return "it failed without saying why"
        if built is not EnvironmentState.DESTROYED:
            return f"it is {built}: {scene.environment.reason} {scene.environment.fault}, {scene.proxy.happened}"
        if left := left_of_ours(connection, scene.id):
            return f"there is left: {left}"
        happened = scene.proxy.happened.count(name)
        return "" if happened >= times else f"only {happened} faults happened: {scene.proxy.calls}"


def test_each_delivery_is_ready_or_fails_clean(
    test_cloud: CloudUnderTest, neighbours: set[str], connection: Connection, tmp_path: Path
) -> None:
    def one(kind: Kind) -> str:
        return deliver(test_cloud, kind, tmp_path / id_of(kind[0]))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        wrong = dict(zip([name for name, _, _ in KINDS], pool.map(one, KINDS), strict=True))
    assert {name: why for name, why in wrong.items() if why} == {}
    assert neighbours <= ids(connection)
