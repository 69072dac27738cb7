"""The script configurator: runs the role's script from the repository on the node.

The script is told about its surroundings by environment variables, and may say what it did, one line each:
`greenroom: updated <text>` and `greenroom: unchanged <text>`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.clients.checkout import inside
from pipeline.domain.errors import StageFailed
from pipeline.ports.common import Limits, Sink
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult, ResourceResult
from pipeline.ports.transports import Connection

#: A script is read into memory; more than this is no script.
MAX_SCRIPT_BYTES = 1024 * 1024
#: More reports than anybody reads; the rest is only in the log.
MAX_REPORTS = 10_000
MAX_LINE_BYTES = 4096

_REPORT = re.compile(rb"greenroom: (updated|unchanged) (.+)")
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9]+")


class ScriptConfigurator:
    """Runs scripts; `directory` is a place of its own on every node."""

    def __init__(self, directory: str = "/var/lib/greenroom/script") -> None:
        self._directory = directory

    @property
    def name(self) -> str:
        return "script"

    def available(self, connection: Connection, request: ConvergeRequest) -> str | None:
        del connection  # a shell is on every node
        if request.script is None and request.run_list:
            return f"role {request.node.role} has a run list but no script: add `script:` to it, or converge with chef"
        return None

    def converge(
        self, connection: Connection, request: ConvergeRequest, *, limits: Limits, output: Sink
    ) -> ConvergeResult:
        if reason := self.available(connection, request):
            raise StageFailed(reason)
        if request.script is None:
            return ConvergeResult()
        content = _read(request.source, request.script)
        self._place(connection, request, content)
        return self._run(connection, request, limits, output)

    def _place(self, connection: Connection, request: ConvergeRequest, content: bytes) -> None:
        node = request.node.name
        nodes = [{"name": one.name, "role": one.role, "address": one.inside} for one in request.nodes]
        hosts = "".join(f"{one.name} {one.role} {one.inside}\n" for one in request.nodes)
        attributes = json.dumps(dict(request.attributes)).encode()
        connection.put_file(node, attributes, f"{self._directory}/attributes.json", mode=0o600)
        connection.put_file(node, json.dumps(nodes).encode(), f"{self._directory}/nodes.json")
        connection.put_file(node, hosts.encode(), f"{self._directory}/hosts")
        connection.put_file(node, content, f"{self._directory}/script", mode=0o700)

    def _run(self, connection: Connection, request: ConvergeRequest, limits: Limits, output: Sink) -> ConvergeResult:
        reports = Reports(output)
        command = f"cd {self._directory} && exec ./script"
        status = connection.run(
            request.node.name, command, limits=limits, output=reports, env=self._environment(request)
        )
        if status != 0:
            raise StageFailed(
                f"script {request.script} failed on node {request.node.name} with exit status {status}: see its log"
            )
        return ConvergeResult(reports.finish())

    def _environment(self, request: ConvergeRequest) -> dict[str, str]:
        return {
            **dict(_flat("GREENROOM_ATTR", request.attributes)),
            "GREENROOM_SERVICE": request.service,
            "GREENROOM_ROLE": request.node.role,
            "GREENROOM_NODE": request.node.name,
            "GREENROOM_ENVIRONMENT": request.environment_id,
            "GREENROOM_ATTRIBUTES": f"{self._directory}/attributes.json",
            "GREENROOM_NODES": f"{self._directory}/nodes.json",
            "GREENROOM_HOSTS": f"{self._directory}/hosts",
        }


class Reports:
    """A sink that passes everything on, and picks out what the script reports."""

    def __init__(self, output: Sink) -> None:
        self._output = output
        self._line = b""
        self._found: list[ResourceResult] = []

    def __call__(self, piece: bytes) -> None:
        self._output(piece)
        *lines, rest = (self._line + piece).split(b"\n")
        for line in lines:
            self._take(line)
        self._line = rest[:MAX_LINE_BYTES]

    def finish(self) -> tuple[ResourceResult, ...]:
        """All that was reported, with a last line that had no end."""
        self._take(self._line)
        self._line = b""
        return tuple(self._found)

    def _take(self, line: bytes) -> None:
        match = _REPORT.fullmatch(line.strip())
        if match and len(self._found) < MAX_REPORTS:
            self._found.append(ResourceResult("script", match[2].decode(errors="replace"), match[1].decode()))


def _read(source: str, script: str) -> bytes:
    path = inside(source, script)
    if not path.is_file():
        raise StageFailed(f"script {script!r} is not a file")
    if path.stat().st_size > MAX_SCRIPT_BYTES:
        raise StageFailed(f"script {script!r} has more than {MAX_SCRIPT_BYTES} bytes")
    return path.read_bytes()


def _flat(prefix: str, attributes: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name plain values for shells: `{"shop": {"port": 80}}` is `GREENROOM_ATTR_SHOP_PORT=80`; lists have no name."""
    for key, value in attributes.items():
        name = f"{prefix}_{_NOT_IN_NAMES.sub('_', key.upper())}"
        if isinstance(value, Mapping):
            yield from _flat(name, value)
        elif isinstance(value, bool):
            yield name, str(value).lower()
        elif isinstance(value, str | int | float):
            yield name, str(value)
