"""Commands of the repository that run on the nodes themselves."""

from __future__ import annotations

import shlex
from pathlib import Path, PurePosixPath

from pipeline.domain.blueprint import CommandSpec
from pipeline.domain.errors import NotFound, TooLarge, UserError
from pipeline.domain.reports import TestReport
from pipeline.ports.common import Limits, Sink
from pipeline.ports.reports import ReportReader
from pipeline.ports.transports import Connection, NodeAccess
from pipeline.ports.verifiers import VerifyRequest, VerifyResult

#: The largest JUnit file that is fetched.
JUNIT_BYTES = 10 * 1024 * 1024
#: Where commands run on nodes of a role that nothing was deployed to: the home of root, who runs them.
_HOME = "/root"
_FETCH = Limits(total_s=120, silence_s=60)


class CommandVerifier:
    """A `Verifier` for `run:`. It needs no sandbox: nodes are thrown away, and nothing runs on the worker."""

    def __init__(self, reports: ReportReader) -> None:
        self._reports = reports

    def verify(self, request: VerifyRequest, connection: Connection, *, limits: Limits, output: Sink) -> VerifyResult:
        spec = request.spec
        if not isinstance(spec, CommandSpec):
            raise TypeError(f"{type(spec).__name__} is not for commands")
        if not request.nodes:
            raise UserError(f"`{spec.run}`: on: {spec.on!r} names no node")
        judged = [_Node(self._reports, request, spec, connection, node).judge(limits, output) for node in request.nodes]
        bad = [result.summary for result in judged if not result.passed]
        summary = "; ".join(bad) if bad else ", ".join(result.summary for result in judged)
        return VerifyResult(not bad, summary, tuple(path for result in judged for path in result.reports))


class _Node:
    """The command on one node."""

    def __init__(
        self,
        reports: ReportReader,
        request: VerifyRequest,
        spec: CommandSpec,
        connection: Connection,
        node: NodeAccess,
    ) -> None:
        self._reports = reports
        self._request = request
        self._spec = spec
        self._connection = connection
        self._node = node

    def judge(self, limits: Limits, output: Sink) -> VerifyResult:
        """Exit status and report must both be good; the report is fetched either way."""
        env = self._request.env.get(self._node.name)
        status = self._connection.run(self._node.name, self._command(), limits=limits, output=output, env=env)
        fetched = self._fetch() if self._spec.junit else VerifyResult(True, "passed")
        if status == 0 and fetched.passed:
            return VerifyResult(True, f"{self._node.name}: {fetched.summary}", fetched.reports)
        said = [f"exit status {status}"] if status else []
        said += [fetched.summary] if self._spec.junit else []
        return VerifyResult(False, f"{self._node.name}: {', '.join(said)}", fetched.reports)

    @property
    def _directory(self) -> str:
        return self._request.workdirs.get(self._node.role, _HOME)

    def _command(self) -> str:
        lines = [f"cd {shlex.quote(self._directory)} || exit 1"]
        if self._spec.junit:  # one of an earlier attempt on the same node must not speak for this one
            lines.append(f"rm -f -- {shlex.quote(self._junit_path())}")
        return "\n".join([*lines, self._spec.run])

    def _junit_path(self) -> str:
        return str(PurePosixPath(self._directory) / (self._spec.junit or ""))

    def _fetch(self) -> VerifyResult:
        path = self._junit_path()
        local = Path(self._request.scratch) / f"{self._node.name}.xml"
        try:
            pieces = self._connection.fetch(self._node.name, path, limit_bytes=JUNIT_BYTES, limits=_FETCH)
            with local.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
        except NotFound:
            return VerifyResult(False, f"its JUnit report {path} is missing")
        except TooLarge:
            return VerifyResult(False, f"its JUnit report {path} is larger than {JUNIT_BYTES} bytes")
        return self._read(local)

    def _read(self, local: Path) -> VerifyResult:
        try:
            with local.open("rb") as file:
                report = self._reports.read(str(self._spec.junit), iter(lambda: file.read(65536), b""))
        except UserError as error:
            return VerifyResult(False, str(error), (str(local),))
        return _verdict(report, str(local))


def _verdict(report: TestReport, path: str) -> VerifyResult:
    """The report's own verdict: one that judged nothing has not passed."""
    if not report.executed:
        return VerifyResult(False, f"no test was run ({report.summary})", (path,))
    return VerifyResult(not report.bad, report.summary, (path,))
