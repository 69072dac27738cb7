"""Wrong settings and accounts: each is told by the name of what is wrong, and nothing is made."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
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
from tests.openstack.cloud.seed import identity_of
from tests.plugins.local_nodes import Keys
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.tools.faulty_proxy import Certificate, faulty_proxy

DEPLOYMENT = "badinput"
APPLICATION = """\
clouds:
  greenroom:
    region_name: RegionOne
    auth_type: v3applicationcredential
    auth: {{auth_url: {}, application_credential_id: {}, application_credential_secret: {}}}
"""

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


def identity_url(cloud: CloudUnderTest) -> str:
    [url] = set(re.findall(r"auth_url: (\S+)", cloud.clouds_file.read_text()))
    return str(url)


def self_signed(place: Path) -> Certificate:
    """Of loopback, for a day."""
    file, key = place / "certificate.pem", place / "key.pem"
    wanted = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    names = ("-subj", "/CN=loopback", "-addext", "subjectAltName=IP:127.0.0.1")
    argv = ["openssl", "req", "-x509", *wanted, *names, "-keyout", str(key), "-out", str(file)]
    subprocess.run(argv, check=True, capture_output=True, timeout=30)
    return Certificate(file, key)


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


def test_an_entry_that_stands_twice_is_refused_without_its_password(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    file = changed(test_cloud, tmp_path, "  neighbour:", "  greenroom:")
    with (
        driver_of(file, terms_of(test_cloud), tmp_path) as driver,
        pytest.raises(PermanentError, match=r"the key 'greenroom' in line \d+ stands twice") as caught,
    ):
        driver.list()
    assert "ostack" not in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_is_refused_and_one_that_is_given_is_taken(
    test_cloud: CloudUnderTest, tmp_path: Path
) -> None:
    """Keystone behind TLS: the account's `cacert` alone decides."""
    certificate = self_signed(tmp_path)
    upstream = {"identity": identity_url(test_cloud).removesuffix("/v3")}
    with faulty_proxy(upstream, tls=certificate) as proxy:
        secured = f"auth_url: {proxy.url('identity')}/v3"
        file = changed(test_cloud, tmp_path, f"auth_url: {identity_url(test_cloud)}", secured)
        with (
            driver_of(file, terms_of(test_cloud), tmp_path) as driver,
            pytest.raises(PermanentError, match="certificate"),
        ):
            driver.list()
        assert proxy.calls == []
        trusting = f"  greenroom:\n    cacert: {certificate.file}\n"
        file.write_text(file.read_text().replace("  greenroom:\n", trusting))
        with driver_of(file, terms_of(test_cloud), tmp_path) as driver:
            driver.list()
        assert any(call.startswith("POST") for call in proxy.calls)


def test_an_application_credential_is_enough_until_it_ends(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    with closing(connection_of(test_cloud, test_cloud.ours)) as connection:
        identity = identity_of(connection)
        user = str(connection.current_user_id)
        role = {"roles": [{"name": "member"}]}
        made = identity.create_application_credential(user, "bad-input", **role)
        try:
            file = tmp_path / "clouds.yaml"
            file.write_text(APPLICATION.format(identity_url(test_cloud), made.id, made.secret))
            with driver_of(file, terms_of(test_cloud), tmp_path) as driver:
                driver.list()
        finally:
            identity.delete_application_credential(user, made)
        with driver_of(file, terms_of(test_cloud), tmp_path) as driver:
            with pytest.raises(PermanentError, match=r"Application Credential.*or renew what has") as caught:
                driver.list()
            assert made.secret not in str(caught.value)
            made = identity.create_application_credential(user, "bad-input", **role)
            try:  # the entry is renewed beside a process that goes on
                file.write_text(APPLICATION.format(identity_url(test_cloud), made.id, made.secret))
                driver.list()
            finally:
                identity.delete_application_credential(user, made)


def test_a_check_names_everything_that_is_missing(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    terms = Terms("no-net", "no-outside", images={"plain": "no-image", "rich": test_cloud.image}, login=False)
    with driver_of(test_cloud.clouds_file, terms, tmp_path) as driver:
        found = driver.check()
    assert [one.partition(" in the cloud")[0] for one in found] == [
        "cloud greenroom: there is no network 'no-net'",
        "cloud greenroom: there is no external network 'no-outside'",
        "cloud greenroom: there is no image 'no-image'",
    ]


def test_a_network_without_an_outside_has_no_floating_addresses(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    terms = replace(terms_of(test_cloud), external_network=test_cloud.network)
    with driver_of(test_cloud.clouds_file, terms, tmp_path) as driver:
        [found] = driver.check()
    assert f"there is no external network '{test_cloud.network}'" in found


def test_quotas_of_nothing_are_told_by_what_they_are_of(test_cloud: CloudUnderTest, tmp_path: Path) -> None:
    """Of a project of its own: the limits of the others are what tests beside this one run into."""
    with closing(connection_of(test_cloud, test_cloud.admin)) as admin:
        identity = identity_of(admin)
        project = identity.create_project(name="bad-input-poor", domain_id="default")
        user = identity.create_user(name="bad-input-poor", password="poor", domain_id="default")
        try:
            identity.assign_project_role_to_user(project, user, identity.find_role("member", ignore_missing=False))
            admin.compute.update_quota_set(project, instances=0)
            admin.network.update_quota(project.id, floatingip=0)
            file = changed(test_cloud, tmp_path, "username: greenroom", "username: bad-input-poor")
            text = file.read_text().replace("project_name: greenroom", "project_name: bad-input-poor")
            file.write_text(text.replace("password: ostack", "password: poor"))
            network = test_cloud.external_network  # which every project sees
            terms = Terms(network, network, floating=True, images={"plain": test_cloud.image}, login=False)
            with driver_of(file, terms, tmp_path) as driver:
                found = driver.check()
        finally:
            identity.delete_user(user)
            admin.network.delete_quota(project.id)
            identity.delete_project(project)
    assert [one.split(" has no ")[1].partition(":")[0] for one in found] == ["servers", "floating addresses"]


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
