"""Converging one node with the Chef client in local mode."""

from __future__ import annotations

import json
import shlex
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.adapters.configurators.chef.collector import Report, read_report
from pipeline.adapters.configurators.chef.cookbooks import check_run_list, collect
from pipeline.adapters.configurators.chef.layout import Layout, client_rb, dna, node_object, role
from pipeline.adapters.configurators.chef.package import ChefPackage, find_client, install
from pipeline.adapters.configurators.chef.verdict import AGAIN, check
from pipeline.domain.errors import NotFound, PermanentError, StageFailed
from pipeline.ports.common import LimitExceeded, Limits, Sink
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult, ResourceResult
from pipeline.ports.transports import Connection

DIRECTORY = "/var/lib/greenroom/chef"
#: How often a client that wants to be run again is.
MAX_RERUNS = 3
#: The collector's file holds the node's own data as well: some hundred KiB.
MAX_RESULT_BYTES = 64 * 1024 * 1024
#: Looking for a client is a matter of milliseconds once the node answers.
FIND_LIMITS = Limits(total_s=60, silence_s=60)
#: Ruby reads recipes in the locale's encoding.
ENVIRONMENT = {"LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", "HOME": "/root"}


@dataclass(frozen=True)
class Outcome:
    """One run of the client."""

    status: int
    report: Report | None
    tail: str


class ChefConfigurator:
    """Runs Chef or Cinc; installs `package` where the node has no client.

    `shipped` is a local directory of cookbooks that are offered besides the repository's; `directory` is the place
    on the node; `monotonic` counts seconds.
    """

    def __init__(
        self,
        package: ChefPackage | None,
        *,
        shipped: str,
        directory: str = DIRECTORY,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._package = package
        self._shipped = shipped
        self._layout = Layout(directory)
        self._monotonic = monotonic

    @property
    def name(self) -> str:
        return "chef"

    def available(self, connection: Connection, request: ConvergeRequest) -> str | None:
        if reason := _unsuited(request):
            return reason
        if find_client(connection, request.node.name, FIND_LIMITS):
            return None
        return self._package.unusable() if self._package else _no_client(request.node.name)

    def converge(
        self, connection: Connection, request: ConvergeRequest, *, limits: Limits, output: Sink
    ) -> ConvergeResult:
        if reason := _unsuited(request):
            raise StageFailed(reason)
        if not request.run_list:
            return ConvergeResult()
        budget = Budget(limits, self._monotonic)
        client = self._client(connection, request.node.name, budget, output)
        self._place(connection, request, budget)
        return self._run_until_done(connection, request, client, budget, output)

    def _client(self, connection: Connection, node: str, budget: Budget, output: Sink) -> str:
        if client := find_client(connection, node, FIND_LIMITS):
            return client
        if self._package is None:
            raise PermanentError(_no_client(node))
        install(connection, node, self._package, budget.limits(), output)
        client = find_client(connection, node, FIND_LIMITS)
        if client is None:
            raise PermanentError(f"the package {self._package.file_name} left no chef-client or cinc-client on {node}")
        return client

    def _place(self, connection: Connection, request: ConvergeRequest, budget: Budget) -> None:
        """Replace all but the cache and the node's own data, which recipes may rely on from run to run."""
        with tempfile.TemporaryDirectory(prefix="greenroom-chef-") as directory:
            stage(Path(directory), self._layout, request, self._shipped)
            self._clear(connection, request, budget)
            connection.put(request.node.name, directory, self._layout.directory, limits=budget.limits(), replace=False)

    def _clear(self, connection: Connection, request: ConvergeRequest, budget: Budget) -> None:
        node = request.node.name
        tail = Tail(_ignore)
        own = shlex.quote(f"{node}.json")
        command = (
            f"mkdir -p {self._layout.directory}/nodes && chmod 0700 {self._layout.directory} && "
            f"cd {self._layout.directory} && rm -rf cookbooks roles data_bags environments dna.json client.rb && "
            f"find nodes -type f ! -name {own} -delete"
        )
        if connection.run(node, command, limits=budget.limits(), output=tail) != 0:
            raise PermanentError(f"cannot prepare {self._layout.directory} on node {node}: {tail.text}")

    def _run_until_done(
        self, connection: Connection, request: ConvergeRequest, client: str, budget: Budget, output: Sink
    ) -> ConvergeResult:
        node = request.node.name
        resources: list[ResourceResult] = []
        for left in range(MAX_RERUNS, -1, -1):
            outcome = self._run(connection, node, client, budget, output)
            resources += outcome.report.resources if outcome.report else ()
            if outcome.status not in AGAIN:
                check(node, outcome.status, outcome.report, outcome.tail)
                return ConvergeResult(tuple(resources))
            output(_again_line(outcome.status, left))
        raise StageFailed(
            f"chef on node {node} asked for {AGAIN[outcome.status]} (exit status {outcome.status}) in every one of "
            f"{MAX_RERUNS + 1} runs: make the recipe ask only while it is needed; nodes are not rebooted by Greenroom"
        )

    def _run(self, connection: Connection, node: str, client: str, budget: Budget, output: Sink) -> Outcome:
        tail = Tail(output)
        status = connection.run(node, self._command(node, client), limits=budget.limits(), output=tail, env=ENVIRONMENT)
        return Outcome(status, self._report(connection, node, budget), tail.text)

    def _command(self, node: str, client: str) -> str:
        """The client leaves with 0 when its configuration is missing: so look first."""
        own = shlex.quote(f"nodes/{node}.json")
        return (
            f"cd {self._layout.directory} && mkdir -p cache && : > result.jsonl && "
            f"{{ [ -e {own} ] || cp node.json {own}; }} && "
            f"{{ [ -s client.rb ] || {{ echo client.rb is missing; exit 66; }}; }} && "
            f"exec {shlex.quote(client)} --local-mode --config {self._layout.client_rb} "
            f"--json-attributes {self._layout.dna} --chef-license accept-no-persist --no-color --force-formatter"
        )

    def _report(self, connection: Connection, node: str, budget: Budget) -> Report | None:
        try:
            pieces = connection.fetch(node, self._layout.result, limit_bytes=MAX_RESULT_BYTES, limits=budget.limits())
            return read_report(b"".join(pieces))
        except NotFound:
            return None


class Budget:
    """The seconds that one converge has for all its commands."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._end = monotonic() + limits.total_s

    def limits(self) -> Limits:
        """What is left for the next command; LimitExceeded when nothing is."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise LimitExceeded("total", f"converging took more than {self._limits.total_s:g} s")
        return replace(self._limits, total_s=left)


class Tail:
    """A sink that passes everything on and keeps the last words."""

    SIZE = 1000

    def __init__(self, output: Sink) -> None:
        self._output = output
        self._kept = b""

    def __call__(self, piece: bytes) -> None:
        self._output(piece)
        self._kept = (self._kept + piece)[-self.SIZE :]

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


def stage(directory: Path, layout: Layout, request: ConvergeRequest, shipped: str) -> None:
    """Write everything the client reads into a local directory."""
    names = collect(request.source, request.spec.cookbooks, shipped, directory)
    check_run_list(request.run_list, names, request.spec.cookbooks)
    (directory / "nodes").mkdir()
    (directory / "client.rb").write_text(client_rb(layout, request.node.name))
    _write(directory / "dna.json", dna(request, _run_list(directory, request)))
    _write(directory / "node.json", node_object(request, request.node))
    for other in request.nodes:
        if other.name != request.node.name:
            _write(directory / "nodes" / f"{other.name}.json", node_object(request, other))


def _run_list(directory: Path, request: ConvergeRequest) -> tuple[str, ...]:
    """The role as a Chef role; a role of that name in the repository keeps its own meaning."""
    name = request.node.role
    roles = directory / "roles"
    roles.mkdir(exist_ok=True)
    if any((roles / f"{name}{ending}").exists() for ending in (".json", ".rb")):
        return request.run_list
    _write(roles / f"{name}.json", role(request))
    return (f"role[{name}]",)


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1))


def _unsuited(request: ConvergeRequest) -> str | None:
    if request.script is not None and not request.run_list:
        return f"role {request.node.role} has a script but no run list: add `run_list:`, or converge with script"
    return None


def _no_client(node: str) -> str:
    return (
        f"node {node} has no cinc-client or chef-client, and no package to install one from is configured: "
        "configure a .deb or tar archive (a file or a URL), use an image with a client, "
        "or write `configure: {with: script}`"
    )


def _again_line(status: int, left: int) -> bytes:
    note = "; nodes are not rebooted" if status != 213 else ""
    after = f"running the client again, {left} more at most" if left else "giving up"
    return f"greenroom: chef asked for {AGAIN[status]} (exit status {status}){note}; {after}\n".encode()


def _ignore(_: bytes) -> None:
    """Drop output that says nothing."""
