"""Wrong settings and accounts: each is told by the name of what is wrong, and nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account
from pipeline.domain.errors import InfraError, PermanentError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Custom
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

DEPLOYMENT = "badinput"

pytestmark = [pytest.mark.openstack, pytest.mark.timeout(120)]


@contextmanager
def driver_of(file: Path, terms: Terms, locks: Path, cloud: str = "greenroom") -> Iterator[OpenStackDriver]:
    driver = OpenStackDriver(DEPLOYMENT, Account(cloud, str(file), timeout_s=20), {}, terms, locks)
    yield driver
    driver.close()


def terms_of(cloud: CloudUnderTest) -> Terms:
    return Terms(cloud.network, images={"plain": cloud.image}, login=False)


def changed(cloud: CloudUnderTest, place: Path, old: str, new: str) -> Path:
    """The entries with a mistake in them."""
    text = cloud.clouds_file.read_text()
    assert old in text
    file = place / "clouds.yaml"
    file.write_text(text.replace(old, new))
    return file


def request_of(keys: Keys, **node: object) -> EnvironmentRequest:
    plain = NodeRequest("web-0", "web", "plain", Resources(1, 64, 1), QosProfile(), keys.host, keys.host_public)
    wrong = replace(plain, **node)  # type: ignore[arg-type]  # the tests name fields of it
    return EnvironmentRequest(DEPLOYMENT, "env-bad", "shop", keys.login_public, 2e9, (wrong,))


@pytest.mark.parametrize(
    ("old", "new", "kind", "told"),
    [
        ("password: ostack", "password: wrong", PermanentError, "401"),
        ("username: greenroom", "username: nobody", PermanentError, "401"),
        ("127.0.0.1", "127.0.0.1:1/nowhere#", TransientError, "127.0.0.1"),
    ],
)
def test_an_account_that_does_not_work(
    test_cloud: CloudUnderTest, tmp_path: Path, old: str, new: str, kind: type[InfraError], told: str
) -> None:
    file = changed(test_cloud, tmp_path, old, new)
    with driver_of(file, terms_of(test_cloud), tmp_path) as driver, pytest.raises(InfraError, match=told) as caught:
        driver.list()
    assert type(caught.value) is kind


def test_an_entry_that_is_not_there_is_named_with_those_that_are(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    with (
        driver_of(test_cloud.clouds_file, terms_of(test_cloud), tmp_path, "greenrom") as driver,
        pytest.raises(PermanentError, match=r"no cloud 'greenrom'.*admin, greenroom, neighbour"),
    ):
        driver.list()


def test_a_check_names_everything_that_is_missing(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    terms = Terms("no-net", "no-outside", images={"plain": "no-image", "rich": test_cloud.image}, login=False)
    with driver_of(test_cloud.clouds_file, terms, tmp_path) as driver:
        found = driver.check()
    assert [one.partition(" in the cloud")[0] for one in found] == [
        "there is no network 'no-net'",
        "there is no network 'no-outside'",
        "there is no image 'no-image'",
    ]


def test_a_name_that_two_have_is_told_with_both(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    connection = connection_of(test_cloud, test_cloud.ours)
    twins = [connection.network.create_network(name="twin") for _ in range(2)]
    try:
        with driver_of(test_cloud.clouds_file, replace(terms_of(test_cloud), network="twin"), tmp_path) as driver:
            [found] = driver.check()
        assert all(twin.id in found for twin in twins)
    finally:
        for twin in twins:
            connection.network.delete_network(twin)
        connection.close()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"image": "no-image"}, "no image 'no-image'; there are: plain"),
        ({"resources": Resources(1000, 64, 1)}, "no flavor has 1000 vCPU"),
        ({"custom": Custom(flavor="m1.tiny")}, "`server.flavor` m1.tiny is not allowed there"),
    ],
)
def test_a_request_that_never_works_makes_nothing(
    test_cloud: CloudUnderTest, tmp_path: Path, node_keys: Keys, wrong: dict[str, object], told: str
) -> None:
    with driver_of(test_cloud.clouds_file, terms_of(test_cloud), tmp_path) as driver:
        with pytest.raises(PermanentError, match=told):
            driver.create(request_of(node_keys, **wrong))
        assert driver.list().environments == ()
