"""The verifier: one pytest over all chosen nodes, and what its exit status and its report say."""

from __future__ import annotations

import os
import stat
from functools import cached_property
from pathlib import Path, PurePosixPath

from pipeline.adapters.verifiers.testinfra import layout
from pipeline.domain.blueprint import TestinfraSpec
from pipeline.domain.errors import TooLarge, UserError
from pipeline.ports.common import Limits, Sink
from pipeline.ports.reports import ReportReader
from pipeline.ports.sandboxes import Sandbox, SandboxCommand
from pipeline.ports.transports import Connection
from pipeline.ports.verifiers import VerifyRequest, VerifyResult

#: The largest report that is taken from the sandbox.
JUNIT_BYTES = 10 * 1024 * 1024

#: What pytest's exit statuses mean (pytest.ExitCode).
_MEANING = {
    2: "pytest was interrupted: a test module could not be collected",
    3: "pytest broke: an internal error or a plugin of the suite",
    4: "pytest could not be started: a wrong option in the suite's configuration or a broken conftest.py",
    5: "no tests were collected",
}


class TestinfraVerifier:
    """A `Verifier` for `testinfra:`. `python` is an interpreter with pytest and pytest-testinfra."""

    __test__ = False  # not a test class, whatever its name

    def __init__(self, sandbox: Sandbox, reports: ReportReader, python: str) -> None:
        self._sandbox = sandbox
        self._reports = reports
        self._python = python

    def verify(
        self,
        request: VerifyRequest,
        connection: Connection,  # noqa: ARG002 - the suite has connections of its own, through the sandbox's relays
        *,
        limits: Limits,
        output: Sink,
    ) -> VerifyResult:
        spec = request.spec
        if not isinstance(spec, TestinfraSpec):
            raise TypeError(f"{type(spec).__name__} is not for testinfra")
        source = str(layout.SHIPPED) if spec.shipped else request.source
        suite = _suite(source, spec.path)
        if not request.nodes:
            raise UserError(f"testinfra {spec.path}: its roles have no node")
        place = Path(request.scratch) / "report"
        place.mkdir()
        command = self._command(request, source, suite, spec.path, place)
        status = self._sandbox.run(command, limits=limits, output=output)
        return self._judge(status, place / "junit.xml", Path(request.scratch) / "testinfra.xml")

    def _command(self, request: VerifyRequest, source: str, suite: Path, path: str, place: Path) -> SandboxCommand:
        access = request.access
        return SandboxCommand(
            argv=layout.arguments(self._python, suite, path, request.nodes),
            cwd=layout.SOURCE,
            read_only=layout.mounts(source, self._interpreter),
            writable={layout.REPORT_DIRECTORY: str(place)},
            secrets=layout.files(access.nodes, access.private_key, self._python),
            env=layout.environment(request),
            relays=access.nodes,
        )

    @cached_property
    def _interpreter(self) -> dict[str, str]:
        return dict(layout.interpreter(self._python))

    def _judge(self, status: int, written: Path, kept: Path) -> VerifyResult:
        """Exit status and report must both say that tests ran and passed."""
        try:
            _take(written, kept)
        except UserError as error:
            why = _MEANING.get(status, f"pytest ended with {status}")
            return VerifyResult(False, str(error) if status in (0, 1) else f"{why}; {error}")
        try:
            with kept.open("rb") as file:
                report = self._reports.read("the suite's JUnit report", iter(lambda: file.read(65536), b""))
        except UserError as error:
            return VerifyResult(False, str(error), (str(kept),))
        reports = (str(kept),)
        if status not in (0, 1):
            return VerifyResult(False, _MEANING.get(status, f"pytest ended with {status}"), reports)
        if not report.executed:
            return VerifyResult(False, f"no test was run ({report.summary})", reports)
        if status != 0 and not report.bad:
            return VerifyResult(False, f"pytest ended with {status}, though its report says {report.summary}", reports)
        return VerifyResult(not report.bad, report.summary, reports)


def _suite(source: str, path: str) -> Path:
    """The suite on this machine. Errors: UserError when the commit has none there."""
    pure = PurePosixPath(path)
    root = Path(source).resolve()
    suite = (root / pure).resolve()
    if pure.is_absolute() or not suite.is_relative_to(root) or not suite.exists():
        raise UserError(f"testinfra: the commit has no {path}")
    return suite


def _take(written: Path, kept: Path) -> None:
    """Copy the report to where the suite cannot reach. Errors: UserError.

    The suite may have put anything there: a link to a file of this machine, a pipe that never ends.
    """
    try:
        handle = os.open(written, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError("the suite wrote no JUnit report") from error
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UserError("the suite wrote no JUnit report")
        if found.st_size > JUNIT_BYTES:
            raise TooLarge(f"the suite's JUnit report is larger than {JUNIT_BYTES} bytes")
        kept.write_bytes(os.read(handle, JUNIT_BYTES))
    finally:
        os.close(handle)
