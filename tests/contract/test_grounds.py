"""What all grounds keep to: the docstrings of `pipeline.ports.clouds.Grounds`, as tests."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from pipeline.adapters.clouds.memory import MemoryGrounds
from pipeline.adapters.clouds.openstack import OpenStackGrounds
from pipeline.clients.openstack import Account
from pipeline.domain.cloud_setups import CloudSetup, Found, Part, plan
from pipeline.ports.clouds import Grounds
from pipeline.ports.common import Secret
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of


@dataclass
class Subject:
    grounds: Grounds
    setup: CloudSetup


def _clear_away(cloud: CloudUnderTest, setup: CloudSetup) -> None:
    with closing(connection_of(cloud, cloud.admin)) as admin:
        identity: Any = admin.identity
        for project in list(identity.projects(name=setup.name)):
            for network in list(admin.network.networks(project_id=project.id)):
                admin.network.delete_network(network.id)
            for group in list(admin.network.security_groups(project_id=project.id)):
                admin.network.delete_security_group(group.id)
            identity.delete_project(project.id)
        for user in list(identity.users(name=setup.name)):
            identity.delete_user(user.id)


@pytest.fixture(params=["memory", pytest.param("openstack", marks=pytest.mark.openstack)])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    project = f"p{secrets.token_hex(4)}"
    limits = {"servers": 2, "ports": 12}
    setup = CloudSetup(
        "setup-1", "grounds", "cloud", project, f"{project}-net", "alice", "", 0.0, limits, "10.66.0.0/24"
    )
    if request.param == "memory":
        yield Subject(MemoryGrounds(), setup)
        return
    cloud: CloudUnderTest = request.getfixturevalue("test_cloud")
    real = OpenStackGrounds(Account(cloud.admin, str(cloud.clouds_file)))
    yield Subject(real, setup)
    real.close()
    _clear_away(cloud, setup)


def test_parts_are_made_one_after_the_other_and_each_is_found(subject: Subject) -> None:
    grounds, setup = subject.grounds, subject.setup
    found: Found = grounds.find(setup)
    assert not any(step.there for step in plan(setup, found))
    for wanted in plan(setup, found):
        grounds.make(wanted.part, setup, found, Secret(secrets.token_urlsafe(24)))
        found = grounds.find(setup)
        assert next(step.there for step in plan(setup, found) if step.part is wanted.part), wanted
    assert all(piece.ours for piece in found.values())
    assert found[Part.CREDENTIAL].made_by == setup.id
    entry = grounds.entry(found)
    assert entry["application_credential_id"] == found[Part.CREDENTIAL].id
    assert entry["auth_url"]
