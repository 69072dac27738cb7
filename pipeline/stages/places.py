"""Where things are on nodes, and which nodes an `on:` means."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from pipeline.domain.blueprint import Blueprint
from pipeline.domain.errors import UserError
from pipeline.domain.runs import Run
from pipeline.ports.transports import EnvironmentAccess, NodeAccess

ON = re.compile(r"(?P<role>[a-z0-9-]+)(?:\[(?P<index>\d+)\])?")


def chosen(access: EnvironmentAccess, on: str) -> tuple[NodeAccess, ...]:
    """The nodes of `all`, `web` or `web[0]`."""
    if on == "all":
        return access.nodes
    match = ON.fullmatch(on)
    nodes = access.of_role(match["role"]) if match else ()
    if match and match["index"] is not None:
        nodes = tuple(node for node in nodes if node.name == f"{match['role']}-{match['index']}")
    if not nodes:
        raise UserError(f"on: {on!r} names no node; there are {', '.join(node.name for node in access.nodes)}")
    return nodes


def chosen_of(run: Run, access: EnvironmentAccess, on: str) -> tuple[NodeAccess, ...]:
    """The same of a run that prepares some nodes of an environment alone: `web[0]` is the first of those; or none."""
    if not run.nodes:
        return chosen(access, on)
    mine = of_run(run, access)
    match = ON.fullmatch(on)
    if on == "all" or match is None:
        return mine.nodes
    nodes = mine.of_role(match["role"])
    return nodes if match["index"] is None else nodes[int(match["index"]) :][:1]


def of_run(run: Run, access: EnvironmentAccess) -> EnvironmentAccess:
    """The nodes that a run has to do with."""
    return replace(access, nodes=tuple(node for node in access.nodes if run.works_on(node.name)))


def workdirs(blueprint: Blueprint) -> dict[str, str]:
    """Role to the directory of its current release; the last deployment of a role is the one."""
    return {spec.role: f"{spec.to}/current" for spec in blueprint.deploy}


def variables(run: Run, access: EnvironmentAccess, node: NodeAccess) -> Mapping[str, str]:
    """What commands on nodes are told about where they run."""
    told = {
        "GREENROOM_RUN": run.id,
        "GREENROOM_SHA": run.trigger.sha,
        "GREENROOM_SERVICE": run.plan.service,
        "GREENROOM_ENVIRONMENT": access.environment_id,
        "GREENROOM_ROLE": node.role,
        "GREENROOM_NODE": node.name,
    }
    for role in run.plan.environment.roles:
        name = "GREENROOM_NODES_" + role.name.upper().replace("-", "_")
        told[name] = " ".join(other.inside for other in access.of_role(role.name))
    return told


def in_directory(directory: str, command: str) -> str:
    return f"cd {shlex.quote(directory)} && {{ {command}\n}}"
