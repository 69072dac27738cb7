"""The configurators' twin: converges in memory, with knobs for what may go wrong."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from pipeline.domain.errors import GreenroomError, StageFailed
from pipeline.ports.common import Limits, Sink
from pipeline.ports.configurators import ConvergeRequest, ConvergeResult, ResourceResult
from pipeline.ports.transports import Connection


class MemoryConfigurator:
    """Remembers per node what was converged: the first time updates, the next time finds it unchanged.

    `unavailable` is the reason to give on every node; `failures` maps node names to the error to raise there;
    `restless`: every converge updates, so that no second one is idempotent.
    """

    def __init__(
        self,
        name: str = "script",
        *,
        unavailable: str | None = None,
        failures: Mapping[str, GreenroomError] | None = None,
        restless: bool = False,
    ) -> None:
        self._name = name
        self.unavailable = unavailable
        self.failures = dict(failures or {})
        self.restless = restless
        self._done: set[tuple[str, str, str]] = set()
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return self._name

    def available(self, connection: Connection, request: ConvergeRequest) -> str | None:
        del connection  # nothing is on the node
        return self.unavailable or self._unsuited(request)

    def converge(
        self, connection: Connection, request: ConvergeRequest, *, limits: Limits, output: Sink
    ) -> ConvergeResult:
        del connection, limits  # nothing runs on the node
        if reason := self._unsuited(request):
            raise StageFailed(reason)
        if request.node.name in self.failures:
            raise self.failures[request.node.name]
        output(f"{self._name}: converging {request.node.name}\n".encode())
        return ConvergeResult(tuple(self._resource(request, item) for item in self._wanted(request)))

    def _wanted(self, request: ConvergeRequest) -> tuple[str, ...]:
        if self._name == "chef":
            return request.run_list
        return (request.script,) if request.script else ()

    def _unsuited(self, request: ConvergeRequest) -> str | None:
        if self._wanted(request) or not (request.run_list or request.script):
            return None
        return f"role {request.node.role} has nothing for the configurator {self._name}"

    def _resource(self, request: ConvergeRequest, item: str) -> ResourceResult:
        key = (request.environment_id, request.node.name, item)
        with self._lock:
            changed = self.restless or key not in self._done
            self._done.add(key)
        return ResourceResult(self._name, item, "updated" if changed else "unchanged")
