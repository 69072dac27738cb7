"""Who goes first: pending runs by priority, then by how little their project has running, then by age."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment
from pipeline.domain.projects import Quota
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


#: Seconds after which a waiting request counts as one rank higher, so that nothing starves.
AGING_S = 1800.0
#: Seconds for which smaller requests may overtake one that finds no place; then nothing behind it goes first.
OVERTAKE_S = 120.0


@dataclass(frozen=True)
class Waiting:
    """A request as far as its turn is concerned; `since` is epoch seconds."""

    id: str
    project: str
    priority: Priority
    since: float


def rank(request: Waiting, now: float) -> int:
    """The lowest goes first. Every `AGING_S` of waiting count one rank, without end: whoever waits long enough comes
    before all newcomers, whatever their priority and whatever their projects have of their share.
    """
    return RANK[request.priority] - int(max(0.0, now - request.since) // AGING_S)


def in_turn(waiting: Iterable[Waiting], shares: Callable[[str], float], now: float) -> Iterator[Waiting]:
    """Requests as they should be looked at: by rank, then the project that has least of its share, then age.

    `shares` is asked anew for each request, so that what was placed meanwhile counts.
    """
    ranks: dict[int, dict[str, deque[Waiting]]] = defaultdict(lambda: defaultdict(deque))
    for request in sorted(waiting, key=lambda one: (one.since, one.id)):
        ranks[rank(request, now)][request.project].append(request)
    for _, projects in sorted(ranks.items()):
        while projects:
            least = min(projects, key=lambda name: (shares(name), projects[name][0].since, name))
            yield projects[least].popleft()
            if not projects[least]:
                del projects[least]


@dataclass(frozen=True)
class Use:
    """What environments take together."""

    nodes: int = 0
    vcpu: float = 0.0
    memory_mib: float = 0.0
    disk_gib: float = 0.0
    environments: int = 0

    def plus(self, other: Use, sign: int = 1) -> Use:
        return Use(*(a + sign * b for a, b in zip(astuple(self), astuple(other), strict=True)))


def use_of(environment: Environment) -> Use:
    """What one environment counts against its project's quota."""
    nodes = [node.resources for node in environment.nodes]
    return Use(
        len(nodes),
        float(sum(one.vcpu for one in nodes)),
        float(sum(one.memory_mib for one in nodes)),
        float(sum(one.disk_gib for one in nodes)),
        1,
    )


def over_quota(quota: Quota, used: Use, wanted: Use) -> str:
    """What of a project's own quota is short, and what to do; empty when nothing is."""
    for name in ("nodes", "vcpu", "memory_mib", "disk_gib", "environments"):
        most, now, more = getattr(quota, name), getattr(used, name), getattr(wanted, name)
        if most is not None and now + more > most:
            return (
                f"over the project's own quota of {name}: {more:g} are wanted, {now:g} of {most:g} are in use; "
                "give an environment back, ask for less, or let an operator raise the quota"
            )
    return ""


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


def room_for(wanted: Environment, used: int, max_nodes: int) -> Fits | Unschedulable | Infeasible:
    """Whether a provider that takes `max_nodes` nodes, and has `used` of them, has room for an environment."""
    need = len(wanted.nodes)
    if need > max_nodes:
        return Infeasible(f"{need} nodes are wanted, and provider {wanted.provider} takes {max_nodes} in all")
    if used + need > max_nodes:
        return Unschedulable(
            f"{need} nodes are wanted, {max_nodes - used} of {max_nodes} are free at {wanted.provider}"
        )
    return Fits()
