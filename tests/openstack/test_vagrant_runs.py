"""A whole run on `driver: vagrant` with provider `openstack`: the cloud is asked first, and has the last word."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from pipeline.domain.runs import StageName, StageState, Verdict
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of
from tests.plugins.vagrant_servers import know_the_provider
from tests.tools.deployed import PROJECT, Deployed, running

BLUEPRINT = """\
version: 1
service: mine
environment:
  image: plain
  roles:
    web: {count: 2, size: tiny}
test: []
"""
PATIENCE_S = 400.0

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.vagrant,
    pytest.mark.redis,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("vagrant") is None, reason="there is no vagrant: apt-get install it"),
]


def provider(cloud: CloudUnderTest) -> Mapping[str, Any]:
    return {
        "driver": "vagrant",
        "build_s": 300,
        "vagrant": {"provider": "openstack"},
        "openstack": {
            "cloud": cloud.ours,
            "clouds_file": str(cloud.clouds_file),
            "network": cloud.network,
            "images": {"plain": cloud.image},
            "login": False,
        },
    }


@pytest.fixture(scope="module")
def up(test_cloud: CloudUnderTest) -> Iterator[Deployed]:
    with running(provider=provider(test_cloud)) as one:
        know_the_provider(one.home / "vagrant/vagrant")
        one.add_project()
        yield one
        assert one.app.standing("vagrant") == []


def test_a_push_has_its_servers_made_by_vagrant(up: Deployed, test_cloud: CloudUnderTest) -> None:
    sha = up.commit({"greenroom.yml": BLUEPRINT})
    trigger = up.app.control.submit(PROJECT, str(up.repository), sha, "main", "tester").id

    run = up.ended(trigger, PATIENCE_S)
    assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
    for name in (StageName.DELIVER, StageName.DESTROY):
        assert run.stage(name).state is StageState.PASSED
    assert b"up with 'openstack' provider" in up.app.logs.read(run.id, "deliver-1.vagrant", 0, 1 << 20)
    assert up.app.standing("vagrant") == []
    with connection_of(test_cloud, test_cloud.ours) as hand:
        descriptions = [group.description for group in hand.network.security_groups()]
    assert not any(run.environment_id in description for description in descriptions)
