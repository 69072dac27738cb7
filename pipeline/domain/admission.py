"""Who goes first: pending runs by priority, then by how little their project has running, then by age."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import QUOTA_STATES, Environment
from pipeline.domain.runs import Run

RANK = {Priority.INTERACTIVE: 0, Priority.PUSH: 1, Priority.NIGHTLY: 2}


def admissible(pending: Iterable[Run], running: Mapping[str, int], limits: Mapping[str, int]) -> Sequence[Run]:
    """The runs that may begin now; `running` and `limits` count active runs by project."""
    load = Counter(running)
    chosen: list[Run] = []
    waiting = sorted(pending, key=lambda run: run.created_at)
    while waiting:
        waiting = [run for run in waiting if load[run.project] < limits.get(run.project, 0)]
        if not waiting:
            break
        best = min(waiting, key=lambda run: (RANK[run.priority], load[run.project], run.created_at))
        waiting.remove(best)
        load[best.project] += 1
        chosen.append(best)
    return chosen


@dataclass(frozen=True)
class Fits:
    """There is room now."""


@dataclass(frozen=True)
class Unschedulable:
    """It does not fit now."""

    reason: str


@dataclass(frozen=True)
class Infeasible:
    """It never fits."""

    reason: str


def room_for(wanted: Environment, standing: Iterable[Environment], max_nodes: int) -> Fits | Unschedulable | Infeasible:
    """Whether a provider that takes `max_nodes` nodes has room for an environment."""
    need = len(wanted.nodes)
    if need > max_nodes:
        return Infeasible(f"{need} nodes are wanted, and provider {wanted.provider} takes {max_nodes} in all")
    used = sum(len(environment.nodes) for environment in standing if environment.state in QUOTA_STATES)
    if used + need > max_nodes:
        return Unschedulable(
            f"{need} nodes are wanted, {max_nodes - used} of {max_nodes} are free at {wanted.provider}"
        )
    return Fits()
