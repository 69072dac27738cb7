"""A machine is accepted on real nodes: delivered, measured, tested, destroyed; the result decides on its state."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.adapters.drivers.local import cgroups
from pipeline.domain.runs import StageName, Verdict
from tests.plugins.local_nodes import image_state, why_not
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

#: A posed machine shares its real one with all else that runs there.
ENOUGH = "0.4"
ACCEPT_S = 250.0
BLUEPRINT = """\
version: 1
service: ops
environment:
  image: debian-12
  roles: {any: {}}
test:
  - testinfra: infra
"""
SUITE = "def test_it_has_a_second_disk(host):\n    assert host.file('/dev/vdb').exists\n"

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(600),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    if cgroups.device_of(image_state()) is None:
        pytest.skip(f"{image_state()} is not on a disk that can be throttled")
    with running(provider={"driver": "local", "max_nodes": 60, "zones": 2}) as one:
        one.add_project()
        yield one


def accept(up: Deployed, name: str, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status and answer of an acceptance that is waited for."""
    words = ["machines", "accept", name, "--wait", "--json", "--size", "tiny", "--at-least", ENOUGH, *options]
    argv = [sys.executable, "-m", "pipeline.cli.main", *words]
    done = subprocess.run(argv, capture_output=True, text=True, env=up.env, timeout=ACCEPT_S, check=False)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, found


def machine(up: Deployed, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in up.json("machines") if one["name"] == name)
    return found


def test_it_fails_stays_out_passes_and_serves(up: Deployed) -> None:
    name, other = (one["name"] for one in up.json("machines"))
    sha = up.commit({"greenroom.yml": BLUEPRINT, "infra/test_disks.py": SUITE})
    up("machine", "maintenance", name, "--reason", "a new disk")
    status, failed = accept(up, name, "--tests", f"{up.repository}@{sha}", "--project", PROJECT)
    assert (status, failed["verdict"]) == (1, "failed"), failed
    assert "test_it_has_a_second_disk" in failed["reason"]
    assert (machine(up, name)["state"], failed["id"] in machine(up, name)["state_reason"]) == ("maintenance", True)
    assert up.traces() == {}
    status, passed = accept(up, name, "--peer", other)
    assert (status, passed["verdict"], passed["tests"]["failed"]) == (0, "passed", 0), passed
    assert {one["direction"] for one in passed["measured"]} == {
        "disk_read_iops", "disk_write_iops", "disk_read_bytes", "disk_write_bytes", "network_in", "network_out",
    }  # fmt: skip
    assert (machine(up, name)["state"], passed["id"] in machine(up, name)["state_reason"]) == ("in-service", True)
    assert up.traces() == {}
    assert [one["id"] for one in up.json("machines", "acceptances", name)] == [passed["id"], failed["id"]]


def kill_all(up: Deployed) -> None:
    """Every worker and the tick; whoever started them starts others."""
    for name, pid in up.pids().items():
        if pid is not None and name.startswith(("work", "provider", "tick")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_it_is_accepted_all_the_same_when_all_are_killed_while_it_is_tested(up: Deployed) -> None:
    name, _ = (one["name"] for one in up.json("machines"))
    up("machine", "maintenance", name, "--reason", "a drill")
    asked = up.json("machines", "accept", name, "--size", "tiny", "--at-least", ENOUGH)
    books = up.app.books
    wait_for(lambda: books.runs.get(asked["run"]).value.stage(StageName.TEST).current, "its test stage", ACCEPT_S)
    kill_all(up)
    wait_for(lambda: not books.acceptances.get(asked["id"]).value.open, "its verdict", ACCEPT_S)
    done = books.acceptances.get(asked["id"]).value
    assert done.verdict is Verdict.PASSED, done.reason
    assert machine(up, name)["state"] == "in-service"
    assert up.traces() == {}
