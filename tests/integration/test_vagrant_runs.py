"""Whole runs on `driver: vagrant`: delivered by vagrant-lxc, deployed and tested over verified SSH, and destroyed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
FILES = {"greenroom.yml": BLUEPRINT, "word": "hello\n"}
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


def test_a_push_runs_on_vagrant(up: Deployed) -> None:
    sha = up.commit(FILES)
    trigger = up.app.control.submit(PROJECT, str(up.repository), sha, "main", "tester").id

    run = wait_for(lambda: up.finished(trigger), "the end of the run", PATIENCE_S)
    assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
    assert run.stage(StageName.DESTROY).state is StageState.PASSED
    assert b"Starting container" in up.app.logs.read(run.id, "deliver-1.vagrant", 0, 1 << 20)
    assert up.app.standing("vagrant") == []
