"""A push on the real hypervisor: delivered, configured, deployed, tested over real SSH, and destroyed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.demo.developer import ANYWHERE, RACKS, SAMPLE
from pipeline.domain.runs import STAGES, StageState, Verdict
from tests.plugins.openstack_cloud import CloudUnderTest
from tests.plugins.vagrant_servers import know_the_provider
from tests.tools.deployed import PROJECT, Deployed, running

#: Software emulation takes its time: three guests boot, and everything in them is slow.
PATIENCE_S = 800.0
INVENTORY = """\
version: 1
zones: [{name: rack-B-1}]
machines: [{name: real-1, zone: rack-B-1, vcpu: 16, memory: 8GiB, disk: 100GiB}]
"""

pytestmark = [pytest.mark.hypervisor, pytest.mark.redis, pytest.mark.timeout(1000)]


def provider(driver: str, cloud: CloudUnderTest, inventory: Path) -> Mapping[str, Any]:
    """What settings say of the real hypervisor, whose nodes are reached at floating addresses."""
    return {
        "driver": driver,
        **({"vagrant": {"provider": "openstack"}} if driver == "vagrant" else {}),
        "inventory": str(inventory),
        "build_s": 600,  # where processors are emulated, and slow
        "poll_s": 1,
        "openstack": {
            "cloud": cloud.ours,
            "clouds_file": str(cloud.clouds_file),
            "network": cloud.network,
            "external_network": cloud.external_network,
            "floating": True,
            "images": {"debian-12": cloud.real_image},
        },
    }


@pytest.fixture(params=["openstack", pytest.param("vagrant", marks=pytest.mark.vagrant)])
def driver(request: pytest.FixtureRequest) -> str:
    if request.param == "vagrant" and shutil.which("vagrant") is None:
        pytest.skip("there is no vagrant: apt-get install it")
    return str(request.param)


@pytest.fixture
def up(driver: str, hypervisor: CloudUnderTest, tmp_path: Path) -> Iterator[Deployed]:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(INVENTORY)
    with running(provider=provider(driver, hypervisor, inventory)) as one:
        know_the_provider(one.home / "vagrant/vagrant")
        one.add_project()
        yield one
        assert one.app.standing(driver) == []


def sample() -> dict[str, str]:
    """The repository of the demo, for one rack."""
    files = [file for file in SAMPLE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    content = {str(file.relative_to(SAMPLE)): file.read_text() for file in files}
    return {**content, "greenroom.yml": content["greenroom.yml"].replace(RACKS, ANYWHERE)}


def test_a_push_runs_on_openstack(up: Deployed, driver: str) -> None:
    sha = up.commit(sample())
    trigger = up.app.control.submit(PROJECT, str(up.repository), sha, "main", "tester").id

    run = up.ended(trigger, PATIENCE_S)
    assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
    assert [run.stage(name).state for name in STAGES] == [StageState.PASSED] * len(STAGES)
    environment = up.app.books.environments.get(run.environment_id).value
    assert {node.zone for node in environment.nodes} == {"rack-B-1"}
    assert up.app.standing(driver) == []
    if driver == "vagrant":
        assert b"up with 'openstack' provider" in up.app.logs.read(run.id, "deliver-1.vagrant", 0, 1 << 20)
