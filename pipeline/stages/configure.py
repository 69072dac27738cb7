"""Configure: converge every node, in parallel, with Chef or a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.domain.errors import PermanentError, StageFailed
from pipeline.ports.common import Sink
from pipeline.ports.configurators import Configurator, ConvergeRequest, ConvergeResult
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess
from pipeline.stages.context import PASSED, Answer, Stage, each, limits, line

#: With `auto`, the first of these that has something to do and can work on the node.
PREFERENCE = ("chef", "script")


def start(stage: Stage) -> Answer:
    """Converge all nodes; every node is tried before the stage ends."""
    todo = [role for role in stage.plan.environment.roles if role.run_list or role.script]
    if not todo:
        return PASSED
    with stage.source() as source, stage.connection() as (connection, access):
        nodes = [node for role in todo for node in access.of_role(role.name) if stage.run.works_on(node.name)]
        each(lambda node: _converge_node(stage, connection, access, node, source), nodes)
    return PASSED


def _converge_node(
    stage: Stage, connection: Connection, access: EnvironmentAccess, node: NodeAccess, source: str
) -> None:
    request = _request(stage, access, node, source)
    with stage.sink(node.name) as sink:
        configurator = _choose(stage, connection, request, sink)
        first = _converge(stage, configurator, connection, request, sink)
        line(sink, f"{configurator.name}: {len(first.updated)} of {len(first.resources)} resources updated")
        if stage.plan.configure.idempotent:
            _expect_no_change(_converge(stage, configurator, connection, request, sink), node.name)


def _converge(
    stage: Stage, configurator: Configurator, connection: Connection, request: ConvergeRequest, sink: Sink
) -> ConvergeResult:
    spec = stage.plan.configure
    return configurator.converge(connection, request, limits=limits(spec.timeout_s, spec.silence_s), output=sink)


def _expect_no_change(second: ConvergeResult, node: str) -> None:
    if second.updated:
        changed = ", ".join(f"{resource.type}[{resource.name}]" for resource in second.updated[:5])
        raise StageFailed(f"node {node}: not idempotent: the second converge updated {changed}")


def _choose(stage: Stage, connection: Connection, request: ConvergeRequest, sink: Sink) -> Configurator:
    wanted = stage.plan.configure.with_
    names = PREFERENCE if wanted == "auto" else (wanted,)
    reasons = []
    for name in names:
        reason = _unfit(request, name) or stage.tools.configurator(name).available(connection, request)
        if reason is None:
            return stage.tools.configurator(name)
        reasons.append(f"{name}: {reason}")
        line(sink, f"{name} is not used: {reason}")
    raise PermanentError(f"node {request.node.name} cannot be configured: {'; '.join(reasons)}")


def _unfit(request: ConvergeRequest, name: str) -> str | None:
    if name == "chef" and not request.run_list:
        return f"role {request.node.role} has no run_list"
    if name == "script" and not request.script:
        return f"role {request.node.role} has no script"
    return None


def _request(stage: Stage, access: EnvironmentAccess, node: NodeAccess, source: str) -> ConvergeRequest:
    role = stage.plan.environment.role(node.role)
    return ConvergeRequest(
        environment_id=access.environment_id,
        service=stage.plan.service,
        node=node,
        nodes=access.nodes,
        source=source,
        spec=stage.plan.configure,
        run_list=role.run_list,
        script=role.script,
        attributes=_merged(stage.plan.configure.attributes, role.attributes),
    )


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Deep merge of mappings; anything else of `over` wins, as Chef merges attributes."""
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        result[key] = _merged(known, value) if both else value  # type: ignore[arg-type]  # `both` says that it is a mapping
    return result
