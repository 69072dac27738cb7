"""What a hostile or careless repository does on real nodes: each run ends as it should, and nothing is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local.driver import LocalDriver
from pipeline.domain.runs import Run, StageName, StageState, Verdict
from tests.plugins.local_nodes import why_not
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for

#: All cases go on at the same time.
PATIENCE_S = 100.0
#: What one command may print.
OUTPUT_BYTES = 20 * 1024 * 1024
BLUEPRINT = """\
version: 1
service: bad
environment:
  image: debian-12
  roles:
    web: {{count: 1, size: small{role}}}
configure: {{with: script}}
{more}
"""
ESCAPED = "greenroom-test-escaped"
#: A node's own tar, replaced by one whose archive wants to be unpacked elsewhere.
HOSTILE_TAR = """\
#!/bin/sh
python3 -c '
import io, sys, tarfile
with tarfile.open(mode="w|", fileobj=sys.stdout.buffer) as archive:
    for name in ("../../../escaped", "/tmp/greenroom-test-escaped", "kept/good"):
        entry = tarfile.TarInfo(name)
        entry.size = 3
        archive.addfile(entry, io.BytesIO(b"bad"))
    link = tarfile.TarInfo("kept/out")
    link.type, link.linkname = tarfile.SYMTYPE, "/tmp"
    archive.addfile(link)
    entry = tarfile.TarInfo("kept/out/escaped-link")
    archive.addfile(entry, io.BytesIO(b""))
'
"""

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


def blueprint(more: str, role: str = "") -> dict[str, str]:
    return {"greenroom.yml": BLUEPRINT.format(more=more, role=role)}


def judged_by(*entries: str) -> dict[str, str]:
    return blueprint("test:\n" + "".join(f"  - {entry}\n" for entry in entries))


CASES = {
    "prints": judged_by('{run: "yes so much", on: "web[0]"}'),
    "big-report": judged_by('{run: "truncate -s 1G report.xml", on: "web[0]", junit: report.xml}'),
    "odd-target": blueprint("deploy: [{role: web, to: /srv/../etc}]\ntest: []"),
    "hostile-archive": {
        **blueprint(
            "deploy: [{role: web, to: /srv/bad}]\n"
            'test: [{run: "mkdir /var/tmp/kept && mv evil-tar /usr/bin/tar", on: "web[0]"}]\n'
            "artifacts: [{path: /var/tmp/kept, on: web}]"
        ),
        "evil-tar": HOSTILE_TAR,
    },
    "leads-out": blueprint("test: []", ", script: out"),
    "lost-node": judged_by('{run: "echo waiting; sleep 100", on: "web[0]"}'),
}


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running(workers=3) as one:
        one.add_project()
        yield one


@pytest.fixture(scope="module")
def runs(up: Deployed) -> dict[str, Run]:
    """All cases at their end; they go on at the same time."""
    triggers = {name: _submit(up, name) for name in CASES}
    _destroy_behind_our_back(up, triggers["lost-node"])
    return {name: up.ended(trigger, PATIENCE_S) for name, trigger in triggers.items()}


def _submit(up: Deployed, name: str) -> str:
    if name == "leads-out":
        (up.root / "work" / "out").symlink_to(up.home / "token")
    sha = up.commit(CASES[name], branch=name)
    return up.app.control.submit(PROJECT, str(up.repository), sha, name, "tester").id


def _destroy_behind_our_back(up: Deployed, trigger: str) -> None:
    """As somebody with access to the provider would, in the middle of the test."""

    def waits() -> str | None:
        run = up.run_of(trigger)
        return run.environment_id if run is not None and "waiting" in said(up, run, "test-1") else None

    environment = wait_for(waits, "the test on the node")
    settings = up.app.settings
    LocalDriver(str(settings.helper_socket), settings.deployment).destroy(environment)


def said(up: Deployed, run: Run, name: str) -> str:
    """All of a log, which need not be there."""
    if name not in [log.name for log in up.app.logs.logs(run.id)]:
        return ""
    return up.app.logs.read(run.id, name, 0, 2 * OUTPUT_BYTES).decode(errors="replace")


def test_a_test_that_prints_for_ever_fails_and_its_log_is_bounded(up: Deployed, runs: dict[str, Run]) -> None:
    run = runs["prints"]
    assert (run.verdict, run.stage(StageName.TEST).state) == (Verdict.FAILED, StageState.FAILED)
    assert "output" in run.reason
    assert OUTPUT_BYTES - 100_000 < len(said(up, run, "test-1")) < OUTPUT_BYTES + 100_000


def test_a_report_of_a_gigabyte_fails_and_is_not_kept(up: Deployed, runs: dict[str, Run]) -> None:
    run = runs["big-report"]
    assert run.verdict is Verdict.FAILED
    assert "report.xml is larger than" in run.reason
    assert up.app.logs.artifacts(run.id) == ()


def test_a_target_that_climbs_up_is_refused_before_anything_is_built(runs: dict[str, Run]) -> None:
    run = runs["odd-target"]
    assert run.verdict is Verdict.FAILED
    assert "deploy[0].to" in run.reason
    assert run.environment_id == ""


def test_an_archive_of_a_hostile_node_stays_in_its_place(up: Deployed, runs: dict[str, Run]) -> None:
    run = runs["hostile-archive"]
    assert run.verdict is Verdict.PASSED
    place = "web-0/var/tmp/kept"
    assert {one.name for one in up.app.logs.artifacts(run.id)} == {f"{place}/good", f"{place}/out/escaped-link"}
    assert list(up.root.rglob("escaped")) == []
    assert not Path(f"/tmp/{ESCAPED}").exists()


def test_a_script_that_links_out_of_the_repository_is_not_read(up: Deployed, runs: dict[str, Run]) -> None:
    run = runs["leads-out"]
    assert run.verdict is Verdict.FAILED
    assert "the link 'out' ->" in run.reason
    token = up.app.token.reveal()
    assert not any(token in said(up, run, log.name) for log in up.app.logs.logs(run.id))


def test_a_node_that_was_destroyed_behind_our_back_is_an_error(runs: dict[str, Run]) -> None:
    run = runs["lost-node"]
    assert (run.verdict, run.stage(StageName.TEST).state) == (Verdict.ERROR, StageState.ERROR)
    assert re.search("node web-0 (is gone: its provider local|does not run any more)", run.reason)
    assert len(run.stage(StageName.TEST).attempts) == 1


def test_afterwards_nothing_is_left(up: Deployed, runs: dict[str, Run]) -> None:
    assert up.app.books.environments.in_index("environments:standing:local") == []
    wait_for(lambda: not up.traces(), f"the end of {up.traces()}", 10)
    assert list((up.home / "run" / "ssh").iterdir()) == []
    assert [check for check in up.json("doctor") if not check["ok"]] == []
