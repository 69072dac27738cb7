"""testinfra suites in the real sandbox, against a real SSH server."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.reports.junit import JUnitReader
from pipeline.adapters.sandboxes.bubblewrap import BubblewrapSandbox
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.adapters.verifiers.testinfra import TestinfraVerifier
from pipeline.domain.acceptances import SUITE
from pipeline.domain.blueprint import TestinfraSpec
from pipeline.domain.errors import PermanentError, UserError
from pipeline.domain.resources import Resources
from pipeline.ports.common import LimitExceeded, Limits
from pipeline.ports.transports import EnvironmentAccess
from pipeline.ports.verifiers import VerifyRequest, VerifyResult
from tests.plugins.local_nodes import LocalNodes
from tests.plugins.ssh_peer import SshPeer

LIMITS = Limits(total_s=60, silence_s=60)

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")


class Suite:
    """A commit with one suite, and nodes to judge."""

    def __init__(self, access: EnvironmentAccess, root: Path) -> None:
        self.access = access
        self.source = root / "source"
        self.scratch = root / "scratch"
        self.said: list[bytes] = []
        self._verifier = TestinfraVerifier(BubblewrapSandbox(str(root / "sandboxes")), JUnitReader(), sys.executable)
        (self.source / "tests/infra").mkdir(parents=True)

    def write(self, text: str, name: str = "tests/infra/test_suite.py") -> None:
        (self.source / name).write_text(text)

    def run(self, *, path: str = "tests/infra", roles: tuple[str, ...] = (), limits: Limits = LIMITS) -> VerifyResult:
        self.scratch.mkdir()
        access = self.access
        nodes = tuple(node for node in access.nodes if not roles or node.role in roles)
        request = VerifyRequest(TestinfraSpec(path, roles), str(self.source), str(self.scratch), access, nodes, {})
        with MemoryTransport(NoClock()).connect(access) as connection:
            return self._verifier.verify(request, connection, limits=limits, output=self.said.append)

    def run_shipped(self, asked: Resources) -> VerifyResult:
        """Judge one node, alone in its environment, by Greenroom's own suite."""
        self.scratch.mkdir()
        nodes = self.access.of_role("db")
        access = replace(self.access, nodes=nodes)
        told = {node.name: asked for node in nodes}
        request = VerifyRequest(SUITE, str(self.source), str(self.scratch), access, nodes, {}, asked=told)
        with MemoryTransport(NoClock()).connect(access) as connection:
            return self._verifier.verify(request, connection, limits=LIMITS, output=self.said.append)

    @property
    def output(self) -> str:
        return b"".join(self.said).decode()

    def names(self, result: VerifyResult) -> list[str]:
        report = JUnitReader().read("report", [Path(path).read_bytes() for path in result.reports])
        return sorted(f"{case.name} {case.status}" for case in report.cases)


class NoClock:
    """Refuses to be asked."""

    def now(self) -> float:
        raise AssertionError("nobody needs the time here")

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps here")


@pytest.fixture
def suite(tmp_path: Path, ssh_peer: SshPeer) -> Suite:
    return Suite(ssh_peer.access, tmp_path)


def test_a_suite_judges_every_node(suite: Suite) -> None:
    suite.write("def test_shell(host):\n    assert host.check_output('echo on the node') == 'on the node'\n")
    result = suite.run()
    assert (result.passed, result.summary) == (True, "3 passed"), suite.output
    assert suite.names(result) == [f"test_shell[ssh://{name}] passed" for name in ("db-0", "web-0", "web-1")]


def test_greenrooms_own_suite_passes_a_node_that_is_what_was_asked_for(suite: Suite) -> None:
    result = suite.run_shipped(Resources(vcpu=0.1, memory_mib=16, disk_gib=1))
    assert (result.passed, result.summary) == (True, "7 passed"), suite.output


def test_greenrooms_own_suite_fails_a_node_that_has_less(suite: Suite) -> None:
    result = suite.run_shipped(Resources(vcpu=4096, memory_mib=2**30, disk_gib=2**20))
    assert (result.passed, result.summary) == (False, "4 passed, 3 failed"), suite.output
    failed = [name.partition("[")[0] for name in suite.names(result) if name.endswith("failed")]
    assert failed == ["test_disk_is_as_large_as_asked", "test_memory_is_as_asked", "test_vcpus_are_as_asked"]


def test_roles_choose_nodes(suite: Suite) -> None:
    suite.write("def test_file(host):\n    assert host.file('/etc/passwd').exists\n")
    assert suite.names(suite.run(roles=("db",))) == ["test_file[ssh://db-0] passed"]


def test_a_module_chooses_roles_and_nodes(suite: Suite) -> None:
    suite.write("testinfra_hosts = ['db', 'web-1']\ndef test_file(host):\n    assert host.file('/etc').is_directory\n")
    assert suite.names(suite.run()) == ["test_file[ssh://db-0] passed", "test_file[ssh://web-1] passed"]


def test_a_module_that_chooses_an_unknown_node_fails(suite: Suite) -> None:
    suite.write("testinfra_hosts = ['cache']\ndef test_file(host):\n    pass\n")
    result = suite.run()
    assert not result.passed
    assert "no role or node is called cache" in suite.output


def test_a_failing_test_fails_and_is_reported(suite: Suite) -> None:
    suite.write("def test_good(host):\n    pass\ndef test_bad(host):\n    assert host.run('exit 3').rc == 0\n")
    result = suite.run(roles=("db",))
    assert (result.passed, result.summary) == (False, "1 passed, 1 failed")
    assert suite.names(result) == ["test_bad[ssh://db-0] failed", "test_good[ssh://db-0] passed"]


@pytest.mark.parametrize(
    ("text", "summary"),
    [
        ("", "no tests were collected"),
        ("import pytest\n@pytest.mark.skip\ndef test_x(): pass\n", "no test was run (1 skipped)"),
        ("import os\nos._exit(0)\n", "the suite wrote no JUnit report"),
        ("import nothing_of_that_name\n", "a test module could not be collected"),
        ("def test_x(): raise KeyboardInterrupt\n", "pytest was interrupted"),
    ],
)
def test_a_suite_that_judged_nothing_has_not_passed(suite: Suite, text: str, summary: str) -> None:
    suite.write(text)
    result = suite.run()
    assert not result.passed
    assert summary in result.summary


@pytest.mark.parametrize(
    "forgery",
    [
        "os.symlink('/etc/passwd', '/report/junit.xml')",
        "os.mkfifo('/report/junit.xml')",
        "os.mkdir('/report/junit.xml')",
        "open('/report/junit.xml', 'wb').truncate(11 << 20)",
        "open('/report/junit.xml', 'w').write('no XML')",
    ],
)
def test_a_forged_report_is_not_believed(suite: Suite, forgery: str) -> None:
    suite.write(f"import os\n{forgery}\nos._exit(0)\n")
    result = suite.run()
    assert not result.passed
    assert "report" in result.summary


def test_the_applications_own_pytest_settings_are_not_used(suite: Suite) -> None:
    suite.write("[tool.pytest.ini_options]\naddopts = '--no-such-option'\n", "pyproject.toml")
    suite.write("def test_x(): pass\n")
    assert suite.run().passed, suite.output


def test_the_suites_own_settings_are_used(suite: Suite) -> None:
    suite.write("[pytest]\npython_functions = check_*\n", "tests/infra/pytest.ini")
    suite.write("def check_x(): pass\n")
    assert suite.run().summary == "1 passed", suite.output


def test_a_broken_configuration_is_a_failure_with_a_reason(suite: Suite) -> None:
    suite.write("[pytest]\naddopts = --no-such-option\n", "tests/infra/pytest.ini")
    result = suite.run()
    assert not result.passed
    assert "pytest could not be started" in result.summary


@pytest.mark.parametrize("path", ["tests/none", "../../etc", "/etc"])
def test_a_suite_that_the_commit_does_not_have_is_the_users_error(suite: Suite, path: str) -> None:
    with pytest.raises(UserError, match="the commit has no"):
        suite.run(path=path)


def test_a_suite_that_never_ends_is_ended(suite: Suite) -> None:
    suite.write("import time\ndef test_x():\n    time.sleep(600)\n")
    with pytest.raises(LimitExceeded, match="still running"):
        suite.run(limits=Limits(total_s=2, silence_s=30))


def test_a_suite_that_prints_for_ever_is_ended(suite: Suite) -> None:
    suite.write("while True: print('x' * 1000, file=__import__('sys').__stdout__)\n")
    with pytest.raises(LimitExceeded, match="output"):
        suite.run(limits=Limits(total_s=30, silence_s=30, output_bytes=1_000_000))


def test_the_key_is_nowhere_on_this_machine(suite: Suite) -> None:
    suite.write("def test_x(): pass\n")
    suite.run()
    secret = suite.access.private_key.reveal().splitlines()[2].encode()
    written = [path for path in suite.scratch.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert written == []


def test_a_node_with_another_host_key_is_not_believed(suite: Suite, ssh_peer: SshPeer) -> None:
    ssh_peer.swap_host_keys("web-0", "web-1")
    suite.write("def test_x(host):\n    assert host.run('true').rc == 0\n")
    result = suite.run(roles=("web",))
    assert (result.passed, result.summary) == (False, "2 failed")
    assert "Host key verification failed" in suite.output


def test_an_interpreter_that_does_not_run_is_a_permanent_error(suite: Suite, tmp_path: Path) -> None:
    suite.write("def test_x(): pass\n")
    suite._verifier = TestinfraVerifier(BubblewrapSandbox(str(tmp_path / "s")), JUnitReader(), "/nowhere/python")
    with pytest.raises(PermanentError, match="/nowhere/python"):
        suite.run()


REAL_SUITE = """
import socket

def test_sshd_is_installed_and_listens(host):
    assert host.package("openssh-server").is_installed
    assert host.socket("tcp://0.0.0.0:22").is_listening

def test_the_node_is_the_one_it_is_called(host):
    assert host.check_output("hostname") == host.backend.get_hostname()

def test_the_nodes_network_is_out_of_reach(host):
    address = host.check_output("hostname -I").split()[0]
    sock = socket.socket()
    sock.settimeout(2)
    assert sock.connect_ex((address, 22)) != 0
"""


@pytest.mark.local
def test_real_nodes_are_judged_through_the_relays_alone(local_nodes: LocalNodes, tmp_path: Path) -> None:
    with local_nodes.environment("web-0", "db-0") as access:
        suite = Suite(access, tmp_path)
        suite.write(REAL_SUITE)
        result = suite.run()
    assert (result.passed, result.summary) == (True, "6 passed"), suite.output
