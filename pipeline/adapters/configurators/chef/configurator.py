"""Converging one node with the Chef client in local mode."""

from __future__ import annotations

import shlex
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.configurators.chef.bounds import Budget, Tail
from pipeline.adapters.configurators.chef.collector import Report, read_report
from pipeline.adapters.configurators.chef.layout import Layout
from pipeline.adapters.configurators.chef.package import CANDIDATES, ChefPackage, find_client, install
from pipeline.adapters.configurators.chef.staging import stage
from pipeline.adapters.configurators.chef.verdict import AGAIN, check
from pipeline.domain.errors import NotFound, PermanentError, StageFailed
from pipeline.ports.common import Limits, Sink
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
    """Runs Chef or Cinc; installs what `package` gives where the node has no client, and asks for it only then.

    `shipped` is a local directory of cookbooks that are offered besides the repository's; `directory` is the place
    on the node; `candidates` are names or paths of clients there; `monotonic` counts seconds.
    """

    def __init__(
        self,
        package: Callable[[], ChefPackage | None],
        *,
        shipped: str,
        directory: str = DIRECTORY,
        candidates: Sequence[str] = CANDIDATES,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._give_package = package
        self._given: list[ChefPackage | None] = []
        self._giving = threading.Lock()
        self._shipped = shipped
        self._layout = Layout(directory)
        self._candidates = candidates
        self._monotonic = monotonic

    @property
    def name(self) -> str:
        return "chef"

    def available(self, connection: Connection, request: ConvergeRequest) -> str | None:
        if reason := _unsuited(request):
            return reason
        if self._find(connection, request.node.name):
            return None
        package = self._package
        return package.unusable() if package else _no_client(request.node.name)

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
        if client := self._find(connection, node):
            return client
        package = self._package
        if package is None:
            raise PermanentError(_no_client(node))
        install(connection, node, package, self._layout.package, limits=budget.limits(), output=output)
        client = self._find(connection, node)
        if client is None:
            raise PermanentError(f"the package {package.file_name} left no chef-client or cinc-client on {node}")
        return client

    @property
    def _package(self) -> ChefPackage | None:
        """Asked for once; nodes are converged in several threads, and packing a client takes seconds."""
        with self._giving:
            if not self._given:
                self._given.append(self._give_package())
        return self._given[0]

    def _find(self, connection: Connection, node: str) -> str | None:
        return find_client(connection, node, self._candidates, FIND_LIMITS)

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
