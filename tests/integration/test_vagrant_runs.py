"""Whole runs on `driver: vagrant`: delivered by vagrant-lxc, deployed and tested over verified SSH, and destroyed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.runs import StageName, StageState, Verdict
from tests.plugins.vagrant_nodes import why_not
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

PROVIDER: Mapping[str, Any] = {"driver": "vagrant", "workers": 2}
BLUEPRINT = """\
version: 1
service: mine
environment:
  image: debian-12
  roles:
    web: {count: 2, size: tiny}
deploy: [{role: web, to: /srv/mine, run: ["cp word /srv/said"]}]
test: [{run: 'grep hello /srv/said && test "$(hostname)" = web-1', on: 'web[1]'}]
"""
PATIENCE_S = 120.0

pytestmark = [
    pytest.mark.vagrant,
    pytest.mark.redis,
    pytest.mark.timeout(300),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running(provider=PROVIDER) as one:
        one.add_project()
        yield one
        assert one.app.standing("vagrant") == []


def pushed(up: Deployed, word: str) -> str:
    """The trigger of a run that expects another word than those before it."""
    sha = up.commit({"greenroom.yml": BLUEPRINT.replace("hello", word), "word": f"{word}\n"}, word)
    return up.app.control.submit(PROJECT, str(up.repository), sha, word, "tester").id


def vagrants(home: Path) -> list[int]:
    """Processes of Vagrant, which is a Ruby program, that work for a deployment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            here = (entry / "cwd").readlink().is_relative_to(home)
            if here and b"ruby" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def test_a_push_runs_on_vagrant(up: Deployed) -> None:
    trigger = pushed(up, "hello")

    run = up.ended(trigger, PATIENCE_S)
    assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
    assert run.stage(StageName.DESTROY).state is StageState.PASSED
    assert b"Starting container" in up.app.logs.read(run.id, "deliver-1.vagrant", 0, 1 << 20)
    assert b"Destroying VM" in up.app.logs.read(run.id, "destroy-1.vagrant", 0, 1 << 20)
    assert up.app.standing("vagrant") == []


def test_a_run_outlives_a_kill_of_vagrant(up: Deployed) -> None:
    trigger = pushed(up, "again")
    wait_for(lambda: up.app.standing("vagrant"), "a container that begins to be", PATIENCE_S)
    killed = wait_for(lambda: vagrants(up.home), "vagrant at work", PATIENCE_S)
    for pid in killed:
        os.kill(pid, signal.SIGKILL)

    run = up.ended(trigger, PATIENCE_S)
    assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
    told = [str(event.data) for event in up.app.store.events(run.environment_id)]
    assert any("failed with status 137" in event for event in told), told
    assert up.app.standing("vagrant") == []
