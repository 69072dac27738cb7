"""A whole run on `driver: vagrant` with libvirt: delivered, deployed and tested over verified SSH, and destroyed."""

from __future__ import annotations

import pytest

from pipeline.domain.runs import StageName, StageState, Verdict
from tests.plugins.libvirt_nodes import LibvirtNodes
from tests.tools.deployed import PROJECT, running

BLUEPRINT = """\
version: 1
service: mine
environment:
  image: debian-12
  roles:
    web: {count: 1, size: tiny}
deploy: [{role: web, to: /srv/mine, run: ["cp word /srv/said"]}]
test: [{run: 'grep hello /srv/said && systemctl is-active ssh && test "$(hostname)" = web-0', on: 'web[0]'}]
"""
#: Emulated processors beside other work.
PATIENCE_S = 600.0

pytestmark = [pytest.mark.libvirt, pytest.mark.redis, pytest.mark.timeout(900)]


def test_a_push_runs_on_a_guest(libvirt_nodes: LibvirtNodes) -> None:
    told = {"provider": "libvirt", "uri": libvirt_nodes.uri, "emulate": True}
    with running(provider={"driver": "vagrant", "workers": 2, "build_s": PATIENCE_S, "vagrant": told}) as up:
        up.add_project()
        sha = up.commit({"greenroom.yml": BLUEPRINT, "word": "hello\n"})
        trigger = up.app.control.submit(PROJECT, str(up.repository), sha, "main", "tester").id

        run = up.ended(trigger, PATIENCE_S)
        assert run.verdict is Verdict.PASSED, f"{run.reason}\n{up.said()}"
        assert run.stage(StageName.DESTROY).state is StageState.PASSED
        assert b"Starting domain" in up.app.logs.read(run.id, "deliver-1.vagrant", 0, 1 << 20)
        assert up.app.standing("vagrant") == []
        assert libvirt_nodes.virsh("list", "--all", "--name").split() == []
