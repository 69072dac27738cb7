"""Who goes first, and for whom there is room: runs that may begin, requests in their turn, quotas, full providers."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

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
#: Even shares beyond the first for which aging begins later, at most: with any number of projects nobody starves.
MOST_BEYOND = 3.0
#: Seconds for which smaller requests may overtake one that finds no place; then nothing behind it goes first.
OVERTAKE_S = 120.0


@dataclass(frozen=True)
class Waiting:
    """A request as far as its turn is concerned; `since` is epoch seconds."""

    id: str
    project: str
    priority: Priority
    since: float


def rank(request: Waiting, now: float, even_shares: float = 1.0) -> int:
    """The lowest goes first. Every `AGING_S` of waiting count one rank, without end: whoever waits long enough comes
    before all newcomers, whatever their priority and whatever their projects have of their share.

    `even_shares`: how many times an even share its project holds. For each beyond the first, aging begins one `AGING_S`
    later, for three at most: else whoever floods the line would go before everybody once its flood is old.
    """
    aged = now - request.since - AGING_S * min(MOST_BEYOND, max(0.0, even_shares - 1))
    return RANK[request.priority] - int(max(0.0, aged) // AGING_S)


class Line:
    """Requests that wait, kept so that a look at the first of them costs nothing for the others."""

    def __init__(self, waiting: Iterable[Waiting] = ()) -> None:
        self._kept: dict[tuple[Priority, str], list[Waiting]] = defaultdict(list)
        for request in waiting:
            self._kept[request.priority, request.project].append(request)
        for requests in self._kept.values():
            requests.sort(key=_age)

    def add(self, request: Waiting) -> None:
        insort(self._kept[request.priority, request.project], request, key=_age)

    def remove(self, request: Waiting) -> None:
        """Take one out; ValueError when it does not wait."""
        requests = self._kept[request.priority, request.project]
        del requests[requests.index(request, bisect_left(requests, _age(request), key=_age))]
        if not requests:
            del self._kept[request.priority, request.project]

    def in_turn(self, shares: Callable[[str], float], now: float) -> Iterator[Waiting]:
        """Requests as they should be looked at: by rank, then the project that has least of its share, then age.

        `shares` is asked anew for each request, so that what was placed meanwhile counts. What is added or removed
        meanwhile counts at the next look.
        """
        left = [deque(requests) for requests in self._kept.values()]
        while left:
            held = {project: shares(project) for project in dict.fromkeys(one[0].project for one in left)}
            even = sum(held.values()) / len(held)
            at = min(range(len(left)), key=lambda at: _turn(left[at][0], held[left[at][0].project], even, now))
            yield left[at].popleft()
            if not left[at]:
                del left[at]


def _turn(request: Waiting, held: float, even: float, now: float) -> tuple[int, float, float, str]:
    """Lowest goes first; `even` is what each project would have of its share if all that wait had the same."""
    return rank(request, now, held / even if even else 1.0), held, request.since, request.id


def _age(request: Waiting) -> tuple[float, str]:
    return request.since, request.id


def in_turn(waiting: Iterable[Waiting], shares: Callable[[str], float], now: float) -> Iterator[Waiting]:
    """The requests of one look, as a line has them."""
    return Line(waiting).in_turn(shares, now)


@dataclass(frozen=True)
class Use:
    """What environments take together."""

    nodes: int = 0
    vcpu: float = 0.0
    memory_mib: float = 0.0
    disk_gib: float = 0.0
    environments: int = 0
    floating_addresses: int = 0

    def plus(self, other: Use, sign: int = 1) -> Use:
        return Use(
            self.nodes + sign * other.nodes,
            self.vcpu + sign * other.vcpu,
            self.memory_mib + sign * other.memory_mib,
            self.disk_gib + sign * other.disk_gib,
            self.environments + sign * other.environments,
            self.floating_addresses + sign * other.floating_addresses,
        )


def use_of(environment: Environment) -> Use:
    """What one environment counts against its project's quota."""
    nodes = [node.resources for node in environment.nodes]
    return Use(
        len(nodes),
        float(sum(one.vcpu for one in nodes)),
        float(sum(one.memory_mib for one in nodes)),
        float(sum(one.disk_gib for one in nodes)),
        1,
        sum(node.wiring.floating for node in environment.nodes),
    )


def total(uses: Iterable[Use]) -> Use:
    """What several projects use together."""
    return reduce(Use.plus, uses, Use())


def largest_part(mine: Use, whole: Use) -> float:
    """The largest part of any resource that one use is of another."""
    parts = ((mine.nodes, whole.nodes), (mine.vcpu, whole.vcpu), (mine.memory_mib, whole.memory_mib))
    return max((part / all_ for part, all_ in parts if all_), default=0.0)


def shares_of(uses: Mapping[str, Use], weight: Callable[[str], float]) -> Callable[[str], float]:
    """How much of its fair share a project has: its largest part of any resource in use, over its weight.

    The parts are of what is in use now; what changes in `uses` later counts for its project.
    """
    whole = total(uses.values())
    return lambda project: largest_part(uses.get(project, Use()), whole) / weight(project)


def over_quota(quota: Quota, used: Use, wanted: Use) -> str:
    """What of a project's own quota is short, and what to do; empty when nothing is."""
    for name in vars(quota):
        most, now, more = getattr(quota, name), getattr(used, name), getattr(wanted, name)
        if most is not None and more > 0 and now + more > most:  # a lowered one holds up only who wants more
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
