"""Deliveries killed between any two calls: with an empty store, the reaper leaves nothing of ours and all of others."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from openstack.connection import Connection

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.clients.openstack import Account, Mark, described, named_group
from pipeline.clients.openstack.marks import DEPLOYMENT, ENVIRONMENT
from pipeline.domain.environments import EnvironmentState
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.providers import Provider
from pipeline.envs.reaper import SECOND_SIGHTING_S, Reaper
from pipeline.envs.removals import Removals
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

OURS = "doomed"
DELIVERIES = 20
#: A whole delivery makes no more calls than this, the first ones of a connection counted in; the second figure is that
#: of one with a network of its own and an address that its nodes share.
MOST_CALLS = (25, 28)
#: An address for each delivery that wants one.
VIRTUAL = "10.20.254.{}"
AT_ONCE = 4
SEED = 20261126

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def connection(test_cloud: CloudUnderTest) -> Iterator[Connection]:
    """Of a project in which no other test makes anything: all that is there is counted."""
    made = connection_of(test_cloud, test_cloud.neighbour)
    yield made
    made.close()


@pytest.fixture
def neighbours(connection: Connection, test_cloud: CloudUnderTest) -> Iterator[dict[str, str]]:
    """Things in our project that are not ours: of nobody, and of another deployment; ids by kind."""
    network = connection.network.find_network(test_cloud.neighbour_network, ignore_missing=False)
    outside = connection.network.find_network(test_cloud.external_network, ignore_missing=False)
    mark = Mark("somebody", "env-else")
    with ExitStack() as stack:
        net = connection.network
        made: dict[str, str] = {}
        for name, description in (("plain", ""), ("marked", mark.description)):
            group = net.create_security_group(name=f"neighbour-{name}", description=description)
            stack.callback(net.delete_security_group, group.id)
            port = net.create_port(network_id=network.id, description=description, security_groups=[group.id])
            stack.callback(net.delete_port, port.id)
            address = net.create_ip(floating_network_id=outside.id, port_id=port.id, description=description)
            stack.callback(net.delete_ip, address.id)
            made |= {f"group {name}": group.id, f"port {name}": port.id, f"address {name}": address.id}
        server = connection.compute.create_server(
            name="neighbour",
            image_id=connection.image.find_image(test_cloud.image, ignore_missing=False).id,
            flavor_id=connection.compute.find_flavor("m1.tiny", ignore_missing=False).id,
            networks=[{"port": made["port marked"]}],
            metadata={DEPLOYMENT: "somebody", ENVIRONMENT: "env-else"},
        )
        stack.callback(connection.compute.wait_for_delete, server, wait=60)
        stack.callback(connection.compute.delete_server, server.id)
        connection.compute.wait_for_server(server, wait=60)
        for name in ("web", Mark("somebody", "env-1").group_of("web")):
            apart = connection.compute.create_server_group(name=name, policy="soft-anti-affinity")
            stack.callback(connection.compute.delete_server_group, apart.id)
            made |= {f"server group {name}": apart.id}
        yield {**made, "server": server.id}


def ids(connection: Connection) -> set[str]:
    """Everything in the project that a delivery could have made."""
    net = connection.network
    found = [*net.security_groups(), *net.ports(), *net.ips(), *net.networks(), *connection.compute.servers()]
    return {one.id for one in [*found, *connection.compute.keypairs(), *connection.compute.server_groups()]}


def left_of_ours(connection: Connection) -> list[str]:
    net = connection.network
    kinds = {"group": net.security_groups(), "port": net.ports(), "address": net.ips(), "network": net.networks()}
    marks = [(kind, described(one.description)) for kind, found in kinds.items() for one in found]
    left = [f"{kind} of {mark.environment_id}" for kind, mark in marks if mark is not None and mark.deployment == OURS]
    apart = [named_group(one.name) for one in connection.compute.server_groups()]
    left += [f"server group of {mark.environment_id}" for mark in apart if mark is not None and mark.deployment == OURS]
    servers = connection.compute.servers(details=True)
    return left + [f"server {one.name}" for one in servers if one.metadata.get(DEPLOYMENT) == OURS]


def deliver(told: dict[str, Any]) -> int:
    """How a delivery ended: -9 when it was killed."""
    argv = [sys.executable, "-W", "ignore", "-m", "tests.openstack.doomed"]
    done = subprocess.run(argv, input=json.dumps(told), text=True, capture_output=True, timeout=120, check=False)
    assert done.returncode in {0, -9}, done.stderr
    return done.returncode


def test_killed_deliveries_leave_nothing(
    test_cloud: CloudUnderTest, connection: Connection, neighbours: dict[str, str], node_keys: Keys, tmp_path: Path
) -> None:
    before, dice, now = ids(connection), random.Random(SEED), time.time()
    told = {
        "cloud": test_cloud.neighbour,
        "file": str(test_cloud.clouds_file),
        "network": test_cloud.neighbour_network,
        "external": test_cloud.external_network,
        "image": test_cloud.image,
        "deployment": OURS,
        "locks": str(tmp_path),
        "host_key": node_keys.host.reveal(),
        "host_public": node_keys.host_public,
        "login": node_keys.login_public,
    }
    deliveries: list[dict[str, Any]] = [
        {
            **told,
            "id": f"env-{at}",
            "ends_at": now - 60.0,
            "virtual": VIRTUAL.format(at + 10) if at % 2 else "",
            "calls": dice.randint(1, MOST_CALLS[at % 2]),
        }
        for at in range(DELIVERIES)
    ]
    # a whole one, whose lease has not ended: it is adopted
    deliveries[0] |= {"calls": 10_000, "ends_at": now + 3600.0}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        ends = list(pool.map(deliver, deliveries))
    assert ends.count(-9) > DELIVERIES // 2, ends
    assert left_of_ours(connection)

    clock = ManualClock(now)
    books = Books(MemoryStore(clock))
    terms = Terms(test_cloud.neighbour_network, external_network=test_cloud.external_network, login=False)
    driver = OpenStackDriver(OURS, Account(test_cloud.neighbour, str(test_cloud.clouds_file)), {}, terms, tmp_path)
    provider = Provider("cloud", driver, MemoryTransport(clock))
    gate = Gate(books, clock, {})
    reaper = Reaper(books, lambda _: provider, clock, gate, Removals(books, gate, clock))
    assert reaper.reap("cloud") == []
    clock.sleep(SECOND_SIGHTING_S)
    reaper.reap("cloud")
    assert books.environments.get("env-0").value.state is EnvironmentState.ADOPTED
    assert {one.environment_id for one in driver.list().environments} == {"env-0"}

    driver.destroy("env-0")
    assert left_of_ours(connection) == []
    assert ids(connection) == before
    assert set(neighbours.values()) <= before
    driver.close()
