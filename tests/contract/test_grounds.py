"""What all grounds keep to: the docstrings of `pipeline.ports.clouds.Grounds`, as tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pytest

from pipeline.adapters.clouds.memory import MemoryGrounds
from pipeline.adapters.clouds.openstack import OpenStackGrounds
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_setups import CloudSetup, Found, Part, plan
from pipeline.domain.errors import UserError
from pipeline.ports.clouds import Grounds
from pipeline.ports.common import Secret
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

LIMITS = {"servers": 3, "cores": 6, "memory_mib": 2048, "ports": 16, "security_groups": 9, "security_group_rules": 90}
FIRST, SECOND = Secret("first-secret-of-the-test"), Secret("second-secret-of-the-test")


@dataclass
class Subject:
    """`outside` is the cloud's external network."""

    grounds: Grounds
    setup: CloudSetup
    outside: str = "outside"

    def made(self, *, to: Part = Part.CREDENTIAL, secret: Secret = FIRST) -> Found:
        """Make what is missing, up to a part."""
        found = self.grounds.find(self.setup)
        for step in plan(self.setup, found):
            if not step.there:
                self.grounds.make(step.part, self.setup, found, secret)
                found = self.grounds.find(self.setup)
            if step.part is to:
                break
        return found


@pytest.fixture(params=["memory", pytest.param("openstack", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    mark = secrets.token_hex(4)
    setup = CloudSetup(
        "setup-1", f"lab-{mark}", "cloud", "shop", f"net-{mark}", "ada", "", 0.0, limits=LIMITS, cidr="10.77.0.0/24"
    )
    if request.param == "memory":
        yield Subject(MemoryGrounds(), setup)
        return
    cloud: CloudUnderTest = request.getfixturevalue("test_cloud")
    grounds = OpenStackGrounds(Account(cloud.admin, str(cloud.clouds_file)))
    try:
        yield Subject(grounds, setup, cloud.external_network)
    finally:
        clear_away(cloud, grounds.find(setup))
        grounds.close()


def clear_away(cloud: CloudUnderTest, found: Found) -> None:
    """Remove what was made for a setup."""
    connection = connection_of(cloud, cloud.admin)
    network, identity = connection.network, cast("Any", connection.identity)  # both of its versions
    if Part.ROUTER in found:
        network.remove_interface_from_router(found[Part.ROUTER].id, subnet=found[Part.SUBNET].id)
        network.delete_router(found[Part.ROUTER].id)
    if Part.NETWORK in found:
        network.delete_network(found[Part.NETWORK].id)
    if Part.USER in found:
        identity.delete_user(found[Part.USER].id)
    if Part.PROJECT in found:
        identity.delete_project(found[Part.PROJECT].id)
    connection.close()


def test_nothing_is_there_at_first(subject: Subject) -> None:
    assert subject.grounds.find(subject.setup) == {}


def test_every_part_is_there_once_it_was_made(subject: Subject) -> None:
    found = subject.made()
    assert all(step.there for step in plan(subject.setup, found))
    assert all(piece.ours for piece in found.values())
    assert {name: found[Part.QUOTA].limits[name] for name in LIMITS} == LIMITS
    assert found[Part.CREDENTIAL].made_by == subject.setup.id


def test_made_once_more_it_is_the_same(subject: Subject) -> None:
    found = subject.made()
    assert subject.made() == found


def test_what_another_setup_made_is_there_for_the_next(subject: Subject) -> None:
    found = subject.made()
    subject.setup = replace(subject.setup, id="setup-2")
    assert subject.made() == found


def test_a_credential_is_replaced_where_it_is_wanted(subject: Subject) -> None:
    old = subject.made()[Part.CREDENTIAL]
    subject.setup = replace(subject.setup, id="setup-2", renew=True)
    new = subject.made(secret=SECOND)[Part.CREDENTIAL]
    assert (new.id != old.id, new.made_by) == (True, "setup-2")


@pytest.mark.parametrize("ruled", [False, True])
def test_what_is_there_says_what_it_is(subject: Subject, *, ruled: bool) -> None:
    subject.setup = replace(subject.setup, external_network=subject.outside, access_rules=ruled)
    found = subject.made()
    assert (found[Part.SUBNET].cidr, found[Part.ROUTER].leads_to) == (subject.setup.cidr, subject.outside)
    assert found[Part.CREDENTIAL].ruled is ruled


def test_only_an_external_network_leads_outside(subject: Subject) -> None:
    subject.grounds.check(replace(subject.setup, external_network=subject.outside))
    subject.made(to=Part.NETWORK)
    for name in ("nowhere", subject.setup.network):
        with pytest.raises(UserError, match=name):
            subject.grounds.check(replace(subject.setup, external_network=name))


def test_an_entry_says_where_and_which(subject: Subject) -> None:
    found = subject.made()
    entry = subject.grounds.entry(found)
    assert entry["application_credential_id"] == found[Part.CREDENTIAL].id
    assert entry["auth_url"].startswith("http")
    assert not {key for key in entry if "secret" in key or "password" in key}
