"""Verifiers over the twin of the transport and a sandbox that answers as told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.adapters.reports.junit import JUnitReader
from pipeline.adapters.transports.memory import Call, MemoryTransport, NotProgrammed
from pipeline.adapters.verifiers.commands import JUNIT_BYTES, CommandVerifier
from pipeline.adapters.verifiers.testinfra import TestinfraVerifier
from pipeline.domain.blueprint import CommandSpec, TestinfraSpec
from pipeline.domain.errors import PermanentError, TransientError, UserError
from pipeline.ports.common import LimitExceeded, Limits, Secret, Sink
from pipeline.ports.sandboxes import SandboxCommand
from pipeline.ports.transports import EnvironmentAccess, NodeAccess
from pipeline.ports.verifiers import VerifyRequest, VerifyResult

LIMITS = Limits(total_s=60, silence_s=30)
HOME = "/root"
GOOD = b"<testsuite name='s'><testcase name='a'/></testsuite>"
BAD = b"<testsuite name='s'><testcase name='a'><failure message='wrong'/></testcase></testsuite>"
NODES = tuple(
    NodeAccess(name, name[:-2], "192.0.2.1", 22, "root", "ssh-ed25519 AAAA") for name in ("web-0", "web-1", "db-0")
)
ACCESS = EnvironmentAccess("env-1", Secret("the key"), NODES)


class Clock:
    def now(self) -> float:
        raise AssertionError("nobody needs the time here")

    def sleep(self, seconds: float) -> None:
        """Pass the time at once."""


class Commands:
    """The command verifier on nodes in memory."""

    def __init__(self, scratch: Path) -> None:
        self.transport = MemoryTransport(Clock())
        self.said: list[bytes] = []
        self._scratch = scratch

    def writes(self, content: bytes, path: str = "/srv/shop/current/report.xml") -> None:
        """Let every command `./e2e` write a report."""

        def handler(call: Call) -> int | None:
            if not call.command.endswith("./e2e"):
                return None
            self.transport.files[("env-1", call.node, path)] = content
            return 0

        self.transport.handlers.append(handler)

    def run(self, run: str, *, junit: str | None = None, nodes: tuple[NodeAccess, ...] = NODES[:1]) -> VerifyResult:
        spec = CommandSpec(run, junit=junit)
        env = {"web-0": {"GREENROOM_NODE": "web-0"}}
        workdirs = {"web": "/srv/shop/current"}
        request = VerifyRequest(spec, "/source", str(self._scratch), ACCESS, nodes, workdirs, env)
        with self.transport.connect(ACCESS) as connection:
            return CommandVerifier(JUnitReader()).verify(request, connection, limits=LIMITS, output=self.said.append)


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    return Commands(tmp_path)


def test_a_command_that_succeeds_passes(commands: Commands) -> None:
    assert commands.run("echo fine") == VerifyResult(True, "web-0: passed")
    assert commands.said == [b"fine\n"]


def test_a_command_that_fails_names_node_and_status(commands: Commands) -> None:
    assert commands.run("exit 3") == VerifyResult(False, "web-0: exit status 3")


def test_it_runs_in_the_release_where_the_role_has_one(commands: Commands) -> None:
    commands.run("true", nodes=(NODES[0], NODES[2]))
    assert [call.command for call in commands.transport.calls] == [
        "cd /srv/shop/current || exit 1\ntrue",
        f"cd {HOME} || exit 1\ntrue",
    ]
    assert [call.env for call in commands.transport.calls] == [{"GREENROOM_NODE": "web-0"}, {}]


def test_every_node_is_judged_though_one_failed(commands: Commands) -> None:
    commands.transport.handlers.append(lambda call: 1 if call.node == "web-0" else None)
    result = commands.run("true", nodes=NODES[:2])
    assert (result.passed, result.summary) == (False, "web-0: exit status 1")
    assert [call.node for call in commands.transport.calls] == ["web-0", "web-1"]


def test_a_report_is_fetched_and_counted(commands: Commands) -> None:
    commands.writes(GOOD)
    result = commands.run("./e2e", junit="report.xml")
    assert (result.passed, result.summary) == (True, "web-0: 1 passed")
    assert [Path(path).read_bytes() for path in result.reports] == [GOOD]


def test_a_report_of_a_role_without_a_release_is_below_roots_home(commands: Commands) -> None:
    commands.writes(GOOD, f"{HOME}/report.xml")
    assert commands.run("./e2e", junit="report.xml", nodes=NODES[2:]).passed


def test_an_absolute_report_is_taken_from_there(commands: Commands) -> None:
    commands.writes(GOOD, "/var/tmp/report.xml")
    assert commands.run("./e2e", junit="/var/tmp/report.xml").passed


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        (BAD, "1 failed"),
        (b"<testsuites/>", "no test was run (no tests)"),
        (b"<testsuite><testcase name='a'><skipped/></testcase></testsuite>", "no test was run (1 skipped)"),
        (b"<html/>", "report.xml: the root element is <html>"),
        (b"x" * (JUNIT_BYTES + 1), "is larger than 10485760 bytes"),
    ],
)
def test_a_bad_report_is_not_passed_whatever_the_status(commands: Commands, content: bytes, summary: str) -> None:
    commands.writes(content)
    result = commands.run("./e2e", junit="report.xml")
    assert not result.passed
    assert summary in result.summary


def test_a_missing_report_is_not_passed(commands: Commands) -> None:
    result = commands.run("true", junit="report.xml")
    assert not result.passed
    assert "report /srv/shop/current/report.xml is missing" in result.summary


def test_a_failing_command_keeps_its_good_report(commands: Commands) -> None:
    commands.writes(GOOD)
    commands.transport.handlers.insert(0, lambda call: commands.transport.handlers[1](call) or 2)
    result = commands.run("./e2e", junit="report.xml")
    assert (result.passed, result.summary) == (False, "web-0: exit status 2, 1 passed")
    assert len(result.reports) == 1


def test_an_old_report_does_not_speak_for_a_new_run(commands: Commands) -> None:
    commands.transport.files[("env-1", "web-0", "/srv/shop/current/report.xml")] = GOOD
    assert "is missing" in commands.run("true", junit="report.xml").summary


def test_no_nodes_is_the_users_error(commands: Commands) -> None:
    with pytest.raises(UserError, match="names no node"):
        commands.run("true", nodes=())


@pytest.mark.parametrize(
    ("break_it", "error"),
    [
        (lambda transport: transport.unreachable.update({"web-0": "off"}), TransientError),
        (lambda transport: transport.refusing.update({"web-0": "wrong key"}), PermanentError),
        (lambda transport: setattr(transport, "lose_after", 0), TransientError),
    ],
)
def test_a_broken_machine_is_no_verdict(
    commands: Commands, break_it: Callable[[MemoryTransport], None], error: type[Exception]
) -> None:
    break_it(commands.transport)
    with pytest.raises(error):
        commands.run("true")


def test_an_overrun_is_told_to_the_stage(commands: Commands) -> None:
    with pytest.raises(LimitExceeded, match="no output for 30 s"):
        commands.run("sleep 40")


def test_the_twin_refuses_what_it_was_not_told(commands: Commands) -> None:
    with pytest.raises(NotProgrammed, match="make test"):
        commands.run("make test")


class OneSandbox:
    """Answers one command as told, and keeps it."""

    def __init__(self, status: int, report: bytes | None) -> None:
        self.command: SandboxCommand | None = None
        self._status = status
        self._report = report

    def run(self, command: SandboxCommand, *, limits: Limits, output: Sink) -> int:
        assert self.command is None
        self.command = command
        if self._report is not None:
            (Path(command.writable["/report"]) / "junit.xml").write_bytes(self._report)
        return self._status


def judge_suite(sandbox: OneSandbox, tmp_path: Path, python: str) -> VerifyResult:
    (tmp_path / "source/suite").mkdir(parents=True)
    (tmp_path / "scratch").mkdir()
    request = VerifyRequest(
        TestinfraSpec("suite"), str(tmp_path / "source"), str(tmp_path / "scratch"), ACCESS, NODES[:2], {}
    )
    with MemoryTransport(Clock()).connect(ACCESS) as connection:
        verifier = TestinfraVerifier(sandbox, JUnitReader(), python)
        return verifier.verify(request, connection, limits=LIMITS, output=lambda _: None)


@pytest.mark.parametrize(
    ("status", "report", "passed", "summary"),
    [
        (0, GOOD, True, "1 passed"),
        (1, BAD, False, "1 failed"),
        (0, BAD, False, "1 failed"),
        (1, GOOD, False, "pytest ended with 1, though its report says 1 passed"),
        (0, None, False, "the suite wrote no JUnit report"),
        (5, b"<testsuites/>", False, "no tests were collected"),
        (2, GOOD, False, "pytest was interrupted: a test module could not be collected"),
        (137, None, False, "pytest ended with 137; the suite wrote no JUnit report"),
    ],
)
def test_exit_status_and_report_must_agree(
    tmp_path: Path, status: int, report: bytes | None, passed: bool, summary: str
) -> None:
    result = judge_suite(OneSandbox(status, report), tmp_path, "/usr/bin/python3")
    assert (result.passed, result.summary) == (passed, summary)


def test_the_sandbox_reaches_all_nodes_and_the_key_is_in_no_argument(tmp_path: Path) -> None:
    sandbox = OneSandbox(0, GOOD)
    judge_suite(sandbox, tmp_path, "/usr/bin/python3")
    assert sandbox.command is not None
    assert sandbox.command.relays == NODES
    assert "--hosts=ssh://web-0,ssh://web-1" in sandbox.command.argv
    assert sandbox.command.secrets["/greenroom/key"].reveal() == "the key\n"
    assert "the key" not in repr(sandbox.command)
