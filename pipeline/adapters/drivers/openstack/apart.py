"""Server groups: how Nova is told to keep the nodes of a role apart, where the account may not choose machines.

A server group has neither metadata nor a description, so that its name alone bears the mark. Its members leave it by
themselves; it is made after the environment's security group, and goes before it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Mark, each, named_group, told, whole
from pipeline.ports.drivers import NodeRequest

#: How long a server may take until it has a machine, and how long it takes at least, in seconds.
PLACED_S, AT_LEAST_S = 20.0, 0.5


def ensure(cloud: Cloud, mark: Mark, nodes: Sequence[NodeRequest], *, fresh: bool) -> Mapping[str, str]:
    """Ids of the groups of those roles that are kept apart, by role; `fresh`: nothing was there before."""
    wanted = _kept(cloud.terms, nodes)
    if not wanted:
        return {}
    there = {} if fresh else {str(one.name): str(one.id) for one in of_environment(cloud, mark)}
    return {role: there.get(mark.group_of(role)) or _create(cloud, mark, role, share) for role, share in wanted.items()}


def _kept(terms: Terms, nodes: Sequence[NodeRequest]) -> Mapping[str, int]:
    """The roles that Nova has to keep apart, and how many nodes of each may stand on one machine."""
    if terms.choose_machine:
        return {}
    return {node.role: node.per_machine for node in nodes if node.per_machine is not None}


def turns(terms: Terms, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
    """Nodes that may be made at a time, one turn after the other: of those that are kept apart one in each."""
    turns: list[list[NodeRequest]] = []
    kept, seen = _kept(terms, nodes), Counter[str]()
    for node in nodes:
        turn = seen[node.role]
        if turn == len(turns):
            turns.append([])
        turns[turn].append(node)
        seen[node.role] += node.role in kept
    return turns


def of_environment(cloud: Cloud, mark: Mark) -> list[Any]:
    """The server groups that bear a mark; Nova can filter them by nothing."""
    with told(f"listing server groups of environment {mark.environment_id}"):
        return [one for one in cloud.connection.compute.server_groups() if named_group(one.name) == mark]


def hint(groups: Mapping[str, str], node: NodeRequest) -> dict[str, Any]:
    """What Nova is told of a server; nothing where its role is not kept apart."""
    return {"scheduler_hints": {"group": groups[node.role]}} if node.role in groups else {}


def in_turn(
    cloud: Cloud,
    groups: Mapping[str, str],
    nodes: Sequence[NodeRequest],
    create: Callable[[NodeRequest], str],
) -> None:
    """Create them, those of one group one after the other: Nova counts a server only once it has a machine.

    Of several that it is asked for at a time, each may get the machine that the others got, and fail there.
    """
    chains: dict[str, list[NodeRequest]] = {}
    for node in nodes:
        chains.setdefault(f"role {node.role}" if node.role in groups else f"node {node.name}", []).append(node)

    def one(chain: Sequence[NodeRequest]) -> None:
        for number, node in enumerate(chain, start=1):
            id = create(node)
            if number < len(chain):
                _wait_for_machine(cloud, id)

    each(one, list(chains.values()))


def _wait_for_machine(cloud: Cloud, id: str) -> None:
    """Until Nova has put a server somewhere, or given up; for a while, since it looks once more by itself."""
    deadline = time.monotonic() + PLACED_S
    while id and time.monotonic() < deadline:
        time.sleep(AT_LEAST_S)
        found = [one for one in cloud.looks.after(time.monotonic()) if one.id == id]
        if not any(one.status == "BUILD" and not one.host_id for one in found):
            return


def _create(cloud: Cloud, mark: Mark, role: str, share: int) -> str:
    """So many on one machine at most; 0: as far apart as there is room."""
    rules: dict[str, Any] = {"policy": "anti-affinity", "rules": {"max_server_per_host": share}}
    what = f"creating the server group of role {role} of environment {mark.environment_id}"
    with told(what):
        made = cloud.connection.compute.create_server_group(
            name=mark.group_of(role), **(rules if share else {"policy": "soft-anti-affinity"})
        )
    return whole(what, made.id)
