"""Hard rules: each says which machines may take one more node of a role, and why the others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.domain.errors import AlreadyExists
from pipeline.domain.inventory import Machine
from pipeline.domain.moments import to_the_minute
from pipeline.domain.placement.changes import (
    Change,
    Clear,
    DropRule,
    FallBack,
    FinishBuilds,
    Free,
    Measure,
    MoveServices,
    Remedy,
    ReturnToService,
    Unload,
)
from pipeline.domain.placement.fleet import SPARE_DIMS, Flags, Fleet, Floats, Rows, columns
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.placement.units import amount, at_least_of
from pipeline.domain.resources import DIMENSIONS, Vector
from pipeline.domain.rules import Affinity, BareMetal, Stance

#: Room for rounding, relative to the demand.
SLACK = 1e-9


class Need:
    """What one node takes, as columns: `column`, its part `spare`, and `least`, which what is free must reach (any of
    what it takes nothing of is enough).
    """

    def __init__(self, role: RoleRequest) -> None:
        self.column: Floats = np.asarray(role.demand, dtype=float)[:, None]
        self.spare: Floats = self.column[:SPARE_DIMS]
        self.least: Floats = np.where(self.column > 0, self.column * (1 - SLACK), -np.inf)


@dataclass(frozen=True)
class Question:
    """One more node of a role of a service: may it stand on these rows, where `taken` (dimensions x rows) and
    `nodes` (rows) are what the same decision put there already?
    """

    fleet: Fleet
    role: RoleRequest
    service: str
    need: Need
    rows: Rows
    taken: Floats | float = 0.0
    nodes: Rows | int = 0


@dataclass(frozen=True)
class Filter:
    """A hard rule. `allows` answers for all rows of a question; `why` tells of refused rows what is there against
    what is needed, and what would have to change on the nearest of them: words, or a remedy after which this rule
    refuses that machine no more.

    `kept`: the answer for a row depends on the machine, what stands on it, and the role's demand, image, affinities and
    bare metal alone; it is remembered until the machine changes, and shared by all roles that agree in these.
    `fixed`: it does not even depend on what stands there. All other filters are asked anew at every decision.
    """

    name: str
    allows: Callable[[Question], Flags]
    why: Callable[[Question], tuple[str, str | Remedy]]
    applies: Callable[[Fleet, RoleRequest], bool] = lambda _fleet, _role: True
    fixed: bool = False
    kept: bool = False


def serving(fleet: Fleet, role: RoleRequest) -> Flags:
    """The machines whose state lets nodes of a role in: those in service, and the one that it is admitted to."""
    row = fleet.row.get(role.rules.admitted)
    if row is None:
        return fleet.in_service
    allowed = fleet.in_service.copy()
    allowed[row] = True
    return allowed


def _in_service(q: Question) -> Flags:
    return serving(q.fleet, q.role)[q.rows]


def _why_state(q: Question) -> tuple[str, Remedy]:
    machines = [q.fleet.machines[row] for row in q.rows]
    states = Counter(machine.state for machine in machines)
    first = {machine.state: machine for machine in reversed(machines)}
    counts = {state: f"{count} " if len(states) > 1 else "" for state, count in states.most_common()}
    told = ", ".join(f"{count}{_out(first[state])}" for state, count in counts.items())
    return told, Remedy((ReturnToService(machines[0].name),))


def _out(machine: Machine) -> str:
    reason = f" ({machine.state_reason})" if machine.state_reason else ""
    return f"{machine.state} since {to_the_minute(machine.state_since)}{reason}"


def hard(role: RoleRequest) -> list[Affinity]:
    """The rules about machines that must not be broken."""
    return [one for one in role.rules.affinities if one.stance is not Stance.PREFER]


def keeps(fleet: Fleet, rule: Affinity) -> Flags:
    """The machines that keep one hard rule."""
    having = np.zeros(len(fleet.machines), dtype=bool)
    for value in rule.values:
        having |= fleet.having(rule.attribute, value)
    return having if rule.stance is Stance.REQUIRE else ~having


def _keeps_rules(q: Question) -> Flags:
    allowed = np.ones(len(q.rows), dtype=bool)
    for rule in hard(q.role):
        allowed &= keeps(q.fleet, rule)[q.rows]
    return allowed


def _why_rules(q: Question) -> tuple[str, Remedy]:
    """Of the machine that breaks fewest, all that it breaks."""
    kept = {rule: keeps(q.fleet, rule)[q.rows] for rule in hard(q.role)}
    nearest = int(np.argmax(np.sum(list(kept.values()), axis=0)))
    broken = [rule for rule, rows in kept.items() if not rows[nearest]]
    told = "; ".join(map(str, broken))
    return f"role {q.role.role} has the rule: {told}", Remedy(tuple(DropRule(q.role.role, rule) for rule in broken))


def _bare(q: Question) -> Flags:
    return q.fleet.bare[q.rows]


def _why_bare(q: Question) -> tuple[str, Remedy]:
    return f"role {q.role.role} requires bare metal", Remedy((FallBack(q.role.role),))


def _whole(q: Question) -> Flags:
    return np.asarray(~q.fleet.whole[q.rows] | (q.fleet.nodes[q.rows] + q.nodes == 0))


def _why_whole(q: Question) -> tuple[str, str | Remedy]:
    leased = q.rows[(q.fleet.nodes[q.rows] > 0) & (np.zeros(len(q.rows), dtype=np.intp) + q.nodes == 0)]
    if not len(leased):
        return "bare metal that another node of this environment takes, whole", "add bare-metal machines"
    return "bare metal that is leased already, whole", Remedy((Clear(q.fleet.machines[leased[0]].name),))


def _has_room(q: Question) -> Flags:
    return _reaches(q, q.fleet.free)


def _reaches(q: Question, there: Floats) -> Flags:
    """Whether what the same decision left of something is enough, in every dimension."""
    left = columns(there, q.rows)
    reached = (left if isinstance(q.taken, float) else left - q.taken) >= q.need.least
    enough: Flags = np.logical_and.reduce(reached, axis=0)
    return enough


def _why_room(q: Question) -> tuple[str, str | Remedy]:
    """What is short on the machine that comes nearest; nothing to free where it could not take a node even empty."""
    nearest, least = _nearest(q, q.fleet.free)
    machine = q.fleet.machines[q.rows[nearest]].name
    short = ", ".join(amount(name, by) for name, by in zip(DIMENSIONS, least, strict=True) if by > 0)
    why = f"at least {short} short"
    empty: Flags = np.asarray((_left(q, q.fleet.usable) >= q.need.least).all(axis=0))
    if not empty[nearest]:
        return f"{why}, even if {machine} were empty", "ask for less, or add larger machines"
    return why, Remedy((Free(machine, least),))


def _left(q: Question, there: Floats) -> Floats:
    """What the same decision left of something."""
    left: Floats = there[:, q.rows] - q.taken
    return left


def _nearest(q: Question, there: Floats) -> tuple[int, Vector]:
    """The place, among the rows of a question, that lacks least of something for one more node; what it lacks."""
    lack = q.need.column - _left(q, there)
    lack[q.need.column[:, 0] == 0] = 0.0
    nearest = int(np.argmin(np.max(lack / np.maximum(q.need.column, SLACK), axis=0)))
    return nearest, at_least_of([max(0.0, float(by)) for by in lack[:, nearest]])


def _loads_count(fleet: Fleet, _role: RoleRequest) -> bool:
    return fleet.inventory.limits is not None


def _not_loaded(q: Question) -> Flags:
    """As measured, with all that no measurement shows yet and this one on top."""
    return _reaches(q, q.fleet.headroom) & ~q.fleet.stale[q.rows]


def _why_loaded(q: Question) -> tuple[str, Remedy]:
    nearest, least = _nearest(q, q.fleet.headroom)
    machine, stale = q.fleet.machines[q.rows[nearest]].name, q.fleet.stale[q.rows]
    steps: list[Change] = [Measure(machine)] if stale[nearest] else []
    remedy = Remedy((*steps, *([Unload(machine, least)] if any(least) else [])))
    if stale.all():
        return "its load was not measured lately, which counts as full", remedy
    return "measured load and what it does not show yet reach its limit", remedy


def _builds(q: Question) -> Flags:
    return q.fleet.building[q.rows] + q.nodes < q.fleet.max_builds[q.rows]


def _why_builds(q: Question) -> tuple[str, str | Remedy]:
    over = q.fleet.building[q.rows] + q.nodes + 1 - q.fleet.max_builds[q.rows]
    possible = np.where(q.fleet.building[q.rows] >= over, over, np.inf)
    nearest = int(possible.argmin())
    if not np.isfinite(possible[nearest]):
        return _why_own_builds([q.fleet.machines[row] for row in q.rows])
    machine = q.fleet.machines[q.rows[nearest]].name
    return "as many builds at a time as it takes", Remedy((FinishBuilds(machine, int(over[nearest])),))


def _why_own_builds(machines: Sequence[Machine]) -> tuple[str, str]:
    tried = next((one.name for one in machines if one.probation), "")
    if tried:
        trust = f"`greenroom machine return {tried} --reason WHY`"
        return (
            "on probation: one build at a time until one succeeds",
            f"wait until a node is built on {tried}, or trust it ({trust})",
        )
    return "as many builds at a time as it takes, of this environment alone", "ask for fewer nodes, or add machines"


def _somebody_shuns(fleet: Fleet, role: RoleRequest) -> bool:
    return bool(role.rules.apart_from) or any(fleet.shunned.values())


def _apart(q: Question) -> Flags:
    company = q.fleet.company(q.service, q.role.rules.apart_from)
    return ~(company if q.rows is q.fleet.every else company[q.rows])


def _why_apart(q: Question) -> tuple[str, Remedy]:
    machine = q.fleet.machines[q.rows[0]].name
    others = strangers(q.fleet, q.service, q.role, machine)
    return f"service {q.service} shares no machine with {' or '.join(others)}", Remedy((MoveServices(machine, others),))


def strangers(fleet: Fleet, service: str, role: RoleRequest, machine: str) -> tuple[str, ...]:
    """The services on a machine that a role shuns, or that shun its service."""
    row = fleet.row[machine]
    told = {one for one in role.rules.apart_from if fleet.services[one][row] > 0}
    if fleet.shunned[service][row] > 0:
        there = (node for nodes in fleet.standing.values() for node in nodes if node.machine == machine)
        told |= {node.service for node in there if service in node.apart_from}
    return tuple(sorted(told))


#: Names that are used elsewhere. What the first refuses today, a rule about even shares still counts.
STATE, RULES, CAPACITY = "state", "rules", "capacity"

#: In the order in which they are asked; a refusal is told by the first that refuses.
FILTERS: list[Filter] = [
    Filter(STATE, _in_service, _why_state, fixed=True),
    Filter(RULES, _keeps_rules, _why_rules, lambda _, role: bool(hard(role)), fixed=True),
    Filter("bare-metal", _bare, _why_bare, lambda _, role: role.rules.bare_metal is BareMetal.REQUIRED, fixed=True),
    Filter("whole", _whole, _why_whole, lambda fleet, _: bool(fleet.whole.any()), kept=True),
    Filter("apart", _apart, _why_apart, _somebody_shuns),
    Filter(CAPACITY, _has_room, _why_room, kept=True),
    Filter("builds", _builds, _why_builds, lambda fleet, _: bool(np.isfinite(fleet.max_builds).any()), kept=True),
    Filter("load", _not_loaded, _why_loaded, _loads_count, kept=True),
]


def register(extra: Filter) -> None:
    """Add a filter behind the others, for fleets that are made from then on; the same one again changes nothing.

    AlreadyExists when another one has its name, by which explanations tell them apart.
    """
    if extra in FILTERS:
        return
    if any(one.name == extra.name for one in FILTERS):
        raise AlreadyExists(f"there is another filter {extra.name}; choose a name that no filter has")
    FILTERS.append(extra)
