"""Fifty servers in ten environments on hypervisors that pose, beside a plain script that makes the same things.

Needs the test cloud; without one there is nothing to measure.
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.looks import LOOK_S, Looks
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Account
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.resources import Resources
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.ports.drivers import NodeView
from tests.bench.figures import Figure
from tests.plugins.openstack_cloud import SERVER_LIST, CloudUnderTest, clouds_file, connection_of
from tests.scenarios.world import ClearSecrets
from tests.tools.lifecycles import lifecycle_of

ENVIRONMENTS = 10
NODES = 5
SERVERS = ENVIRONMENTS * NODES
THREADS = 8
POLL_S = 1.0
#: Environments that workers build at a time.
WORKERS = 4
DEPLOYMENT, PROVIDER, OWNER = "bench", "cloud", "run-1"
WITHIN_S = 400.0


def measure() -> Iterator[Figure]:
    if not clouds_file().exists():
        sys.stderr.write("openstack: there is no test cloud; `make openstack-up` starts one\n")
        return
    cloud = CloudUnderTest(clouds_file())
    plain_s = _plain(cloud)
    _say(f"the plain script took {plain_s:.0f} s")
    with tempfile.TemporaryDirectory() as locks, _counting() as calls:
        ours = _ours(cloud, Path(locks))
    what = f"{SERVERS} servers in {ENVIRONMENTS} environments, until all are leased"
    both = f"{ours.made_s:.1f} s against {plain_s:.1f} s of a plain script with {THREADS} threads"
    yield Figure("openstack_ratio", ours.made_s / plain_s, "ratio", f"{what}: {both}", "<= 1.15")
    told = f"{ours.looks} looks of the poller in {ours.made_s:.0f} s"
    yield Figure("openstack_lists_per_look", calls["looks"] / ours.looks, "calls", told, "<= 1")
    told = f"{calls['waits']} lists in {ours.ended_s:.0f} s, for all that wait until servers are gone"
    yield Figure("openstack_lists_per_interval", calls["waits"] / (ours.ended_s / LOOK_S), "calls", told, "<= 1")
    told = f"made and removed, with {calls['steps']} lists right after a build or an end"
    yield Figure("openstack_calls_per_server", (calls["others"] + calls["steps"]) / SERVERS, "calls", told, "<= 8")


@dataclass(frozen=True)
class _Course:
    """How it went: seconds until all were leased, looks of the poller until then, and seconds until all were gone."""

    made_s: float
    looks: int
    ended_s: float


#: Why this thread lists all servers: the poller looks, or several wait for something; else a step of one environment.
_WHY: ContextVar[str] = ContextVar("why", default="steps")


@contextmanager
def _counting() -> Iterator[Counter[str]]:
    """Count what goes to the cloud: lists of servers by why they are made, and others."""
    from keystoneauth1.session import Session

    ask, calls, counting = Session.request, Counter[str](), threading.Lock()
    wait = Looks.after

    def counted(self: Session, url: str, method: str, *args: Any, **more: Any) -> Any:
        with counting:
            calls[_WHY.get() if url == SERVER_LIST else "others"] += 1
        return ask(self, url, method, *args, **more)

    def waits(self: Looks, moment: float) -> Sequence[Any]:
        with _because("waits"):
            return wait(self, moment)

    Session.request, Looks.after = counted, waits  # type: ignore[method-assign]  # put back below
    try:
        yield calls
    finally:
        Session.request, Looks.after = ask, wait  # type: ignore[method-assign]  # as they were


@contextmanager
def _because(why: str) -> Iterator[None]:
    token = _WHY.set(why)
    try:
        yield
    finally:
        _WHY.reset(token)


def _ours(cloud: CloudUnderTest, locks: Path) -> _Course:
    """Make all as the workers of a provider do, and remove it again."""
    works = _Works(cloud, locks)
    ids, looks, began = [f"bench-{at}" for at in range(ENVIRONMENTS)], 0, time.monotonic()
    for id in ids:
        works.request(id)
    with ThreadPoolExecutor(WORKERS) as pool:
        building = [pool.submit(works.step, id) for id in ids]
        while (leased := works.count(EnvironmentState.LEASED)) < ENVIRONMENTS:
            if time.monotonic() - began > WITHIN_S:
                raise SystemExit(f"only {leased} environments were leased in {WITHIN_S:.0f} s")
            time.sleep(POLL_S)
            looks += 1
            with _because("looks"):
                works.lifecycle.poll(PROVIDER)
            _say(f"{leased} of ours are leased")
        for one in building:
            one.result()
        took = time.monotonic() - began
        for id in ids:
            works.end(id)
        list(pool.map(works.step, ids))
        ended = time.monotonic() - began - took
    works.driver.close()
    if (gone := works.count(EnvironmentState.DESTROYED)) < ENVIRONMENTS:
        raise SystemExit(f"only {gone} environments were gone after one step each")
    return _Course(took, looks, ended)


class _Works:
    """Everything that builds and ends environments, on books in memory."""

    def __init__(self, cloud: CloudUnderTest, locks: Path) -> None:
        terms = Terms(cloud.network, images={"plain": cloud.image}, login=False)
        self.driver = _Told(DEPLOYMENT, Account(cloud.ours, str(cloud.clouds_file)), {}, terms, locks)
        clock = SystemClock()
        self.books = Books(MemoryStore(clock))
        gate = Gate(self.books, clock)
        self._removals = Removals(self.books, gate, clock)
        provider = Provider(PROVIDER, self.driver, MemoryTransport(clock))
        inventories = Inventories(self.books, clock, gate)
        self.lifecycle = lifecycle_of(
            provider, self.books, self._removals, inventories, clock, ClearSecrets(), DEPLOYMENT
        )

    def request(self, id: str) -> None:
        """An environment that has its place."""
        nodes = tuple(Node(f"web-{at}", "web", "plain", Resources(1, 64, 1)) for at in range(NODES))
        now = time.time()
        made = Environment(
            id, "team", "shop", OWNER, PROVIDER, EnvironmentState.RESERVED, nodes, Priority.PUSH, now, now, now + 3600
        )  # fmt: skip
        self.books.commit(self.books.environments.kind.put(id, made, 0))

    def step(self, id: str) -> None:
        self.books.again(lambda: self.lifecycle.advance(id))

    def end(self, id: str) -> None:
        loaded = self.books.environments.get(id)
        begun = self._removals.begin(loaded.value, Asking(OWNER, "it was measured"))
        put = self.books.environments.kind.put(id, begun.environment, loaded.version)
        self.books.commit(put, *begun.writes, events=begun.events)

    def count(self, state: EnvironmentState) -> int:
        found = (self.books.environments.get(f"bench-{at}").value for at in range(ENVIRONMENTS))
        return sum(one.state is state for one in found)


class _Told(OpenStackDriver):
    """Says which lists the poller makes: one first, whatever the number of environments; and which one of them does."""

    def nodes(self) -> Sequence[NodeView]:
        found = super().nodes()
        if _WHY.get() == "looks":
            _WHY.set("steps")
        return found


def _plain(cloud: CloudUnderTest) -> float:
    """What a script of a page does: groups with rules, ports and servers, eight at a time, and one list a second."""
    connection = connection_of(cloud, cloud.ours)
    network = connection.network.find_network(cloud.network, ignore_missing=False).id
    image = connection.image.find_image(cloud.image, ignore_missing=False).id
    flavor = connection.compute.find_flavor("m1.tiny", ignore_missing=False).id
    groups: list[str] = []
    ports: list[str] = []

    def group(at: int) -> str:
        made = connection.network.create_security_group(name=f"plain-{at}")
        groups.append(made.id)
        for rule in (
            {"ethertype": "IPv4", "remote_group_id": made.id},
            {"ethertype": "IPv6", "remote_group_id": made.id},
            {"ethertype": "IPv4", "protocol": "tcp", "port_range_min": 22, "port_range_max": 22},
        ):
            connection.network.create_security_group_rule(security_group_id=made.id, direction="ingress", **rule)
        return str(made.id)

    def server(given: tuple[int, str]) -> None:
        at, group_id = given
        port = connection.network.create_port(network_id=network, security_groups=[group_id])
        ports.append(port.id)
        connection.compute.create_server(
            name=f"plain-{at}", image_id=image, flavor_id=flavor, networks=[{"port": port.id}], config_drive=True
        )

    def standing() -> Sequence[Any]:
        return [one for one in connection.compute.servers(details=True) if one.name.startswith("plain-")]

    began = time.monotonic()
    with ThreadPoolExecutor(THREADS) as pool:
        made = list(pool.map(group, range(ENVIRONMENTS)))
        list(pool.map(server, [(at, made[at % ENVIRONMENTS]) for at in range(SERVERS)]))
        _until(lambda: [one.status for one in standing()] == ["ACTIVE"] * SERVERS)
        took = time.monotonic() - began
        list(pool.map(connection.compute.delete_server, standing()))
        _until(lambda: not standing())
        list(pool.map(connection.network.delete_port, ports))
        list(pool.map(connection.network.delete_security_group, groups))
    connection.close()
    return took


def _say(what: str) -> None:
    """On the way, since it takes minutes."""
    sys.stderr.write(f"openstack: {what}\n")


def _until(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not look():
        if time.monotonic() > deadline:
            raise SystemExit(f"the plain script was not done within {WITHIN_S:.0f} s")
        time.sleep(POLL_S)
