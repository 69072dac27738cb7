"""Test: every entry of `test:` is run and reported, whatever the ones before it said."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pipeline.domain.blueprint import CommandSpec, QosSpec, TestinfraSpec
from pipeline.domain.errors import TransientError, UserError
from pipeline.domain.promises import Measured
from pipeline.domain.reports import CaseStatus, TestReport
from pipeline.domain.runs import Outcome, StageState, TestCounts
from pipeline.envs.books import REPORTS
from pipeline.envs.qos import measure
from pipeline.ports.common import LimitExceeded, Sink
from pipeline.ports.stores import Put
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from pipeline.ports.verifiers import VerifyRequest, VerifyResult
from pipeline.stages.artifacts import pieces
from pipeline.stages.context import PASSED, Answer, Change, Done, Stage, limits, line
from pipeline.stages.places import chosen_of, of_run, variables, workdirs

#: Before a suite, which would fail each of its tests slowly, all nodes must answer within so many seconds.
PROBE_S = 10.0

Entry = TestinfraSpec | CommandSpec | QosSpec
Named = tuple[str, TestReport]


def start(stage: Stage) -> Answer:
    """Run all entries; failed when one did not pass."""
    if not stage.plan.test:
        return PASSED
    with stage.source() as source, stage.connection() as (connection, access), stage.sink() as sink:
        _expect_answers(stage, access)
        entries = [_Entry(stage, number, entry) for number, entry in _numbered(stage)]
        concerned = [entry for entry in entries if entry.concerns(access, sink)]
        judged = [entry.judge(source, connection, access, sink) for entry in concerned]
    complaints = [result.summary for result, _ in judged if not result.passed]
    reports = [report for _, reports in judged for report in reports]
    measured = tuple(one for entry in concerned for one in entry.measured)
    outcome = Outcome(StageState.FAILED, "; ".join(complaints), "stage-failed") if complaints else PASSED
    return Done(outcome, writes=_report_writes(stage, reports), change=_with_results(reports, measured))


def _numbered(stage: Stage) -> list[tuple[int, Entry]]:
    return list(enumerate(stage.plan.test, start=1))


def _expect_answers(stage: Stage, access: EnvironmentAccess) -> None:
    transport = stage.tools.providers(stage.run.provider).transport
    silent = transport.probe(of_run(stage.run, access), PROBE_S)
    if silent:
        raise TransientError("; ".join(f"node {name} does not answer: {why}" for name, why in silent.items()))


class _Entry:
    """One entry of `test:`, and what it measured."""

    def __init__(self, stage: Stage, number: int, spec: Entry) -> None:
        self._stage = stage
        self._number = number
        self._spec = spec
        self._name = f"test-{number}"
        self.measured: list[Measured] = []

    def concerns(self, access: EnvironmentAccess, sink: Sink) -> bool:
        """Whether it is about nodes that the run prepares; those of others are in use, and are let alone."""
        mine = bool(not self._stage.run.nodes or self._nodes(access))
        if not mine:
            line(sink, f"[{self._number}] {_title(self._spec)}: is not about {', '.join(self._stage.run.nodes)}")
        return mine

    def judge(
        self, source: str, connection: Connection, access: EnvironmentAccess, sink: Sink
    ) -> tuple[VerifyResult, list[Named]]:
        """Run it and read its reports, which are also kept as artifacts."""
        line(sink, f"[{self._number}] {_title(self._spec)}")
        with self._stage.tools.workspaces.scratch(f"{self._stage.run.id}.{self._name}") as scratch:
            result = self._result(source, scratch, connection, access, sink)
            reports, complaints = self._read(result.reports)
        line(sink, f"[{self._number}] {result.summary}")
        if complaints:
            result = replace(result, passed=False, summary="; ".join([result.summary, *complaints]))
        return result, reports

    def _result(
        self, source: str, scratch: str, connection: Connection, access: EnvironmentAccess, sink: Sink
    ) -> VerifyResult:
        if isinstance(self._spec, QosSpec):
            return self._promises_kept(self._spec, connection, access, sink)
        return self._verify(self._request(self._spec, source, scratch, access), self._spec, connection, sink)

    def _promises_kept(
        self, spec: QosSpec, connection: Connection, access: EnvironmentAccess, sink: Sink
    ) -> VerifyResult:
        promises = {node.name: self._stage.plan.environment.role(node.role).qos for node in access.nodes}
        found = measure(connection, access, promises, self._nodes(access), spec.at_least)
        self.measured = found
        for one in found:
            line(sink, str(one))
        if not found:
            return VerifyResult(False, f"{_title(spec)}: nothing is promised; give the roles `qos` bounds")
        broken = [str(one) for one in found if not one.kept]
        return VerifyResult(not broken, "; ".join(broken) or f"{len(found)} promises kept")

    def _request(
        self, spec: TestinfraSpec | CommandSpec, source: str, scratch: str, access: EnvironmentAccess
    ) -> VerifyRequest:
        nodes, run = self._nodes(access), self._stage.run
        told = {node.name: variables(run, access, node) for node in nodes}
        asked = {node.name: run.plan.environment.role(node.role).resources for node in nodes}
        return VerifyRequest(spec, source, scratch, access, nodes, workdirs(run.plan), told, asked)

    def _verify(
        self, request: VerifyRequest, spec: TestinfraSpec | CommandSpec, connection: Connection, sink: Sink
    ) -> VerifyResult:
        tools = self._stage.tools
        verifier = tools.testinfra if isinstance(spec, TestinfraSpec) else tools.commands
        bounds = limits(spec.timeout_s, spec.silence_s)
        try:
            return verifier.verify(request, connection, limits=bounds, output=sink)
        except LimitExceeded as error:
            return VerifyResult(False, f"{_title(spec)}: {error}")

    def _nodes(self, access: EnvironmentAccess) -> tuple[NodeAccess, ...]:
        run, spec = self._stage.run, self._spec
        if isinstance(spec, TestinfraSpec):
            roles = spec.roles or [role.name for role in self._stage.plan.environment.roles]
            return tuple(node for node in of_run(run, access).nodes if node.role in roles)
        return chosen_of(run, access, spec.qos if isinstance(spec, QosSpec) else spec.on)

    def _read(self, paths: tuple[str, ...]) -> tuple[list[Named], list[str]]:
        reports, complaints = [], []
        for index, path in enumerate(paths, start=1):
            name = f"{self._name}-{index}"
            self._stage.tools.logs.save_artifact(self._stage.run.id, f"junit/{name}.xml", pieces(path))
            try:
                reports.append((name, self._stage.tools.reports.read(name, pieces(path))))
            except UserError as error:
                complaints.append(str(error))
        return reports, complaints


def _title(spec: Entry) -> str:
    if isinstance(spec, QosSpec):
        return f"qos of {spec.qos}"
    return f"testinfra {spec.path}" if isinstance(spec, TestinfraSpec) else f"`{spec.run}` on {spec.on}"


def _report_writes(stage: Stage, reports: list[Named]) -> tuple[Put, ...]:
    """One document a report and attempt; an attempt that is done again has another number."""
    attempt = stage.attempt.number
    return tuple(
        REPORTS.put(f"{stage.run.id}.{attempt}.{name}", report, 0, indexes={f"reports:{stage.run.id}": attempt})
        for name, report in reports
    )


def _with_results(reports: list[Named], measured: tuple[Measured, ...]) -> Change:
    count = Counter(case.status for _, report in reports for case in report.cases)
    tests = TestCounts(
        passed=count[CaseStatus.PASSED],
        failed=count[CaseStatus.FAILED],
        errors=count[CaseStatus.ERROR],
        skipped=count[CaseStatus.SKIPPED],
    )
    return lambda run: replace(run, tests=tests, measured=measured)
