"""Deploy: exactly the commit to `releases/<sha>`, an atomic `current`, commands, readiness."""

from __future__ import annotations

import shlex

from pipeline.domain.blueprint import DeploySpec, Readiness
from pipeline.domain.errors import StageFailed
from pipeline.ports.common import LimitExceeded, Limits, Sink
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from pipeline.stages.context import PASSED, Answer, Stage, each, limits, line
from pipeline.stages.places import in_directory, variables


def start(stage: Stage) -> Answer:
    """Deploy in the order of the blueprint; the nodes of one entry in parallel."""
    if not stage.plan.deploy:
        return PASSED
    with stage.source() as source, stage.connection() as (connection, access):
        for spec in stage.plan.deploy:
            nodes = [node for node in access.of_role(spec.role) if stage.run.works_on(node.name)]
            deployments = [_Deployment(stage, spec, connection, access, node) for node in nodes]
            each(lambda deployment: deployment.do(source), deployments)
    return PASSED


class _Deployment:
    """One entry of `deploy:` on one node."""

    def __init__(
        self, stage: Stage, spec: DeploySpec, connection: Connection, access: EnvironmentAccess, node: NodeAccess
    ) -> None:
        self._stage = stage
        self._spec = spec
        self._connection = connection
        self._node = node
        self._limits = limits(spec.timeout_s, spec.silence_s)
        self._variables = variables(stage.run, access, node)

    def do(self, source: str) -> None:
        with self._stage.sink(self._node.name) as sink:
            self._release(source, sink)
            for command in self._spec.run:
                self._command(command, sink)
            if self._spec.ready is not None:
                self._wait_until_ready(self._spec.ready, sink)

    def _release(self, source: str, sink: Sink) -> None:
        """A release is made aside and becomes `current` by one rename, so that no reader ever sees half of it."""
        sha = self._stage.run.trigger.sha
        release = f"{self._spec.to}/releases/{sha}"
        line(sink, f"{sha} to {release}")
        self._connection.put(self._node.name, source, release, limits=self._limits)
        link = f"ln -sfn releases/{sha} current.new && mv -T current.new current"
        self._shell(in_directory(self._spec.to, link), sink, f"{release} could not be made current")

    def _command(self, command: str, sink: Sink) -> None:
        line(sink, f"$ {command}")
        self._shell(in_directory(f"{self._spec.to}/current", command), sink, f"`{command}` failed")

    def _shell(self, command: str, sink: Sink, complaint: str) -> None:
        status = self._connection.run(self._node.name, command, limits=self._limits, output=sink, env=self._variables)
        if status != 0:
            raise StageFailed(f"node {self._node.name}: {complaint} with exit status {status}")

    def _wait_until_ready(self, ready: Readiness, sink: Sink) -> None:
        check, what = _check(ready)
        loop = f"until {check}; do sleep 0.1; done"
        line(sink, f"waiting for {what}, {ready.within_s:.0f} s at most")
        within = Limits(total_s=ready.within_s, silence_s=ready.within_s)
        try:
            self._connection.run(self._node.name, loop, limits=within, output=sink, env=self._variables)
        except LimitExceeded as error:
            raise StageFailed(f"node {self._node.name}: {what} was not ready within {ready.within_s:.0f} s") from error


def _check(ready: Readiness) -> tuple[str, str]:
    """The shell test of one readiness rule, and its name for a person."""
    if ready.http is not None:
        url = f"http://127.0.0.1{ready.http}"
        return f"curl --fail --silent --output /dev/null --max-time 5 {shlex.quote(url)}", f"http {ready.http}"
    if ready.tcp is not None:
        # curl's exit status 7 is a refused connection; a peer that waits for us to speak takes all of the time
        probe = f"curl --silent --max-time 0.3 --output /dev/null telnet://127.0.0.1:{ready.tcp} </dev/null"
        return f"{{ {probe}; test $? -ne 7; }}", f"tcp port {ready.tcp}"
    return f"( {ready.run}\n) >/dev/null 2>&1", f"`{ready.run}`"
