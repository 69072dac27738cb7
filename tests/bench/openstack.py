"""Fifty servers in ten environments on hypervisors that pose, beside a plain script that makes the same things.

Needs the test cloud; without one there is nothing to measure.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.openstack.looks import LOOK_S
from tests.bench.figures import Figure
from tests.plugins.openstack_cloud import CloudUnderTest, clouds_file, connection_of

ENVIRONMENTS = 10
NODES = 5
SERVERS = ENVIRONMENTS * NODES
THREADS = 8
POLL_S = 1.0
#: Environments that workers build at a time.
WORKERS = 4
DEPLOYMENT = "bench"
WITHIN_S = 400.0


def measure() -> Iterator[Figure]:
    if not clouds_file().exists():
        sys.stderr.write("openstack: there is no test cloud; `make openstack-up` starts one\n")
        return
    cloud = CloudUnderTest(clouds_file())
    plain_s = _plain(cloud)
    _say(f"the plain script took {plain_s:.0f} s")
    with tempfile.TemporaryDirectory() as locks, _counting() as calls:
        ours = _driver(cloud, Path(locks), calls)
    what = f"{SERVERS} servers in {ENVIRONMENTS} environments, until all are active"
    both = f"{ours.made_s:.1f} s against {plain_s:.1f} s of a plain script with {THREADS} threads"
    yield Figure("openstack_ratio", ours.made_s / plain_s, "ratio", f"{what}: {both}", "<= 1.15")
    told = f"{ours.looks} looks in {ours.made_s:.0f} s"
    yield Figure("openstack_lists_per_look", ours.lists / ours.looks, "calls", told, "1")
    ended, intervals = calls["lists"] - ours.lists, ours.ended_s / LOOK_S
    told = f"{ended} lists in {ours.ended_s:.0f} s, for all that wait until servers are gone"
    yield Figure("openstack_lists_per_interval", ended / intervals, "calls", told, "<= 1")
    yield Figure("openstack_calls_per_server", calls["others"] / SERVERS, "calls", "made and removed", "<= 8")


@dataclass(frozen=True)
class _Course:
    """How it went: seconds until all were active, looks and lists of a deployment's servers until then, and seconds
    until all were gone.
    """

    made_s: float
    looks: int
    lists: int
    ended_s: float


@contextmanager
def _counting() -> Iterator[Counter[str]]:
    """Count what goes to the cloud: lists of all of a deployment's servers, and others."""
    from keystoneauth1.session import Session

    ask, calls = Session.request, Counter[str]()

    def counted(self: Session, url: str, method: str, *args: Any, **more: Any) -> Any:
        tags = (more.get("params") or {}).get("tags")
        calls["lists" if tags == f"greenroom-{DEPLOYMENT}" else "others"] += 1
        return ask(self, url, method, *args, **more)

    Session.request = counted  # type: ignore[method-assign]  # put back below
    try:
        yield calls
    finally:
        Session.request = ask  # type: ignore[method-assign]  # as it was


def _driver(cloud: CloudUnderTest, locks: Path, calls: Counter[str]) -> _Course:
    """Make all, and remove it again."""
    from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
    from pipeline.adapters.drivers.openstack.terms import Terms
    from pipeline.clients.openstack import Account
    from pipeline.ports.drivers import NodeStatus

    terms = Terms(cloud.network, images={"plain": cloud.image}, login=False)
    driver = OpenStackDriver(DEPLOYMENT, Account(cloud.ours, str(cloud.clouds_file)), {}, terms, locks)
    names, looks, began = [f"bench-{at}" for at in range(ENVIRONMENTS)], 0, time.monotonic()
    with ThreadPoolExecutor(WORKERS) as pool:
        building = [pool.submit(driver.create, _request(name)) for name in names]
        while True:
            time.sleep(POLL_S)
            looks += 1
            active = [node for node in driver.nodes() if node.status is NodeStatus.ACTIVE]
            _say(f"{len(active)} of ours are active")
            if len(active) == SERVERS or time.monotonic() - began > WITHIN_S:
                break
        for one in building:
            one.result()
        took, lists = time.monotonic() - began, calls["lists"]
        list(pool.map(driver.destroy, names))
        ended = time.monotonic() - began - took
    driver.close()
    if len(active) != SERVERS:
        raise SystemExit(f"only {len(active)} servers became active in {WITHIN_S:.0f} s")
    return _Course(took, looks, lists, ended)


def _request(name: str) -> Any:
    from pipeline.domain.qos import QosProfile
    from pipeline.domain.resources import Resources
    from pipeline.ports.common import Secret
    from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

    small = Resources(vcpu=1, memory_mib=64, disk_gib=1)
    key = Secret("none")
    nodes = [
        NodeRequest(f"web-{at}", "web", "plain", small, QosProfile(), key, "ssh-ed25519 AAAA") for at in range(NODES)
    ]
    return EnvironmentRequest(DEPLOYMENT, name, "bench", "ssh-ed25519 AAAA", time.time() + 3600, tuple(nodes))


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
