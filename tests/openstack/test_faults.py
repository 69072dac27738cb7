"""Faults in front of the real APIs: what was asked for is there in the end, once, and nothing is left afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.domain.errors import TransientError
from pipeline.domain.failsafe import MAX_ATTEMPTS
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CLOUD_LOOK_S, CloudUnderTest
from tests.tools.deployment import wait_for
from tests.tools.faulty_cloud import account_behind, upstream_of
from tests.tools.faulty_proxy import (
    Fault,
    FaultyProxy,
    fails_after,
    faulty_proxy,
    says,
    silent_after,
    slow,
    truncated,
)

DEPLOYMENT = "faulty"
NODES = ("web-0", "web-1")
CREATES, DELETES = r"/servers$", r"/servers/[0-9a-f-]{36}$"

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(200)]


@pytest.fixture(scope="module")
def upstream(test_cloud: CloudUnderTest) -> dict[str, str]:
    """Where the real APIs are, by service."""
    return upstream_of(test_cloud)


@pytest.fixture(scope="module")
def proxy(upstream: dict[str, str]) -> Iterator[FaultyProxy]:
    with faulty_proxy(upstream) as one:
        yield one


@pytest.fixture(scope="module")
def driver(
    proxy: FaultyProxy, test_cloud: CloudUnderTest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenStackDriver]:
    """A driver that reaches everything by way of the proxy."""
    terms = Terms(test_cloud.network, images={"plain": test_cloud.image}, login=False)
    folder = tmp_path_factory.mktemp("faulty")
    made = OpenStackDriver(DEPLOYMENT, account_behind(proxy, test_cloud, folder), {}, terms, folder / "locks")
    yield made
    made.close()


def again(act: Callable[[], None]) -> int:
    """Try as often as `failsafe` would; how often that was."""
    for tries in range(MAX_ATTEMPTS):
        try:
            act()
        except TransientError:
            continue
        return tries + 1
    raise AssertionError(f"{MAX_ATTEMPTS} tries were not enough")


def request(keys: Keys) -> EnvironmentRequest:
    small = Resources(vcpu=1, memory_mib=64, disk_gib=1)
    nodes = tuple(NodeRequest(name, "web", "plain", small, QosProfile(), keys.host, keys.host_public) for name in NODES)
    return EnvironmentRequest(DEPLOYMENT, "env-faulty", "shop", keys.login_public, time.time() + 3600, nodes)


FAULTS = [
    Fault("500 for a server", "POST", CREATES, says(500)),
    Fault("429 for a server", "POST", CREATES, says(429, Retry_After="1")),
    Fault("503 for ports", "POST", r"/ports$", says(503)),
    Fault("a server was made, and nobody heard of it", "POST", CREATES, silent_after),
    Fault("ports were made, and the answer said no", "POST", r"/ports$", fails_after),
    Fault("a group was made, and nobody heard of it", "POST", r"/security-groups$", silent_after),
    Fault("rules were made, and the answer said no", "POST", r"/security-group-rules$", fails_after),
    Fault("half a list", "GET", r"/servers/detail", truncated),
    Fault("a slow server", "POST", CREATES, slow),
    Fault("an expired token", "POST", CREATES, says(401)),
    Fault("a delete happened, and the answer said no", "DELETE", DELETES, fails_after),
    Fault("500 for every delete of ports", "DELETE", r"/ports/", says(500), times=2),
    Fault("a group could not be deleted yet", "DELETE", r"/security-groups/", says(409)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_costs_a_try_and_nothing_else(
    fault: Fault, proxy: FaultyProxy, driver: OpenStackDriver, node_keys: Keys
) -> None:
    proxy.faults[:] = [fault]

    def all_active() -> bool:
        try:
            views = driver.nodes()
        except TransientError:
            return False
        return sorted(view.name for view in views if view.status is NodeStatus.ACTIVE) == sorted(NODES)

    try:
        again(lambda: driver.create(request(node_keys)))
        wait_for(all_active, "active nodes", 90.0, CLOUD_LOOK_S)
    finally:
        again(lambda: driver.destroy("env-faulty"))
    assert fault.name in proxy.happened, proxy.calls
    listing = driver.list()
    assert (listing.nodes, listing.environments) == ((), ())


def test_an_api_that_is_down_is_told_as_such(proxy: FaultyProxy, driver: OpenStackDriver) -> None:
    driver.list()
    down = Fault("down", "GET", r"^/compute", lambda _: None, times=1000)
    proxy.faults[:] = [down]
    with pytest.raises(TransientError, match="listing servers"):
        driver.list()
    down.times = 0
    assert driver.list().nodes == ()
