"""What placement is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.domain.placement.changes import Remedy
from pipeline.domain.qos import QosClass
from pipeline.domain.resources import Vector
from pipeline.domain.rules import PlacementRules, Strategy, Within


@dataclass(frozen=True)
class RoleRequest:
    """`count` nodes that are alike. `demand` is what one of them takes, by `DIMENSIONS`."""

    role: str
    count: int
    demand: Vector
    image: str = ""
    qos_class: QosClass = QosClass.BURSTABLE
    rules: PlacementRules = field(default_factory=PlacementRules)


@dataclass(frozen=True)
class Request:
    """A whole environment: all of its nodes are placed, or none. The rules of operator and project are in its roles."""

    environment: str
    project: str
    service: str
    roles: tuple[RoleRequest, ...]
    within: Within = Within.ANYWHERE
    strategy: Strategy = Strategy.PACK

    @property
    def count(self) -> int:
        return sum(role.count for role in self.roles)


class Standing(NamedTuple):
    """One node that counts on a machine already: reserved, being built or there.

    `since`: when it was placed (epoch seconds). `building`: its build is not over; `built_at`: when it was over, at the
    latest. A tuple, since there are many, made anew at each step of an environment.
    """

    environment: str
    service: str
    role: str
    machine: str
    demand: Vector
    qos_class: QosClass = QosClass.BURSTABLE
    since: float = 0.0
    building: bool = False
    apart_from: tuple[str, ...] = ()
    built_at: float = 0.0
    project: str = ""

    def built(self, now: float) -> Standing:
        """The same after its build."""
        return self._replace(building=False, built_at=now)

    def shown_by(self, measured_at: float, ramp_s: float) -> bool:
        """Whether a measurement shows its load: taken when its build, and the ramp after that, were over."""
        return not self.building and max(self.since, self.built_at) + ramp_s < measured_at


@dataclass(frozen=True)
class Placed:
    """A machine for every node: `machines` maps each role to the machine of its node 0, 1, 2...

    `notes` are what a person should know of it, such as a fall-back and its reason. `apart_from`: the services that
    each role shares no machine with, by whosoever's rule; who comes later must keep away, too.
    """

    machines: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...] = ()
    apart_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Candidate:
    """A machine that would take a node, and its points by the name of the score; more is better."""

    machine: str
    points: Mapping[str, float]

    @property
    def total(self) -> float:
        return sum(self.points.values())


@dataclass(frozen=True)
class Choice:
    """Where node `number` of a role went, and the best other machine; None when no other would take it."""

    role: str
    number: int
    chosen: Candidate
    other: Candidate | None


@dataclass(frozen=True)
class Group:
    """Machines of one zone that the same rule refused for the same role.

    `why` says what is there against what is needed, `remedy` what would have to change on the machine that comes
    nearest so that this rule refuses it no more; `change` is the same for a program, where it is one that it knows.
    """

    zone: str
    role: str
    rule: str
    machines: tuple[str, ...]
    of: int
    why: str
    remedy: str
    change: Remedy | None = None


@dataclass(frozen=True)
class Explanation:
    """Why a request found no place: `rule` names the reason, `role` whose it is.

    `remedies`: each by itself is enough, and no step of it could be left out, as far as that was tried.
    """

    role: str
    summary: str
    groups: tuple[Group, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    rule: str = ""

    def __str__(self) -> str:
        return "\n".join([self.summary, *told(self.remedies)])


def told(remedies: Sequence[Remedy]) -> list[str]:
    """What would help, as lines for a person."""
    if len(remedies) < 2:
        return [f"to place it: {one}" for one in remedies]
    return ["to place it, do one of:", *(f"  {number}. {one}" for number, one in enumerate(remedies, 1))]


@dataclass(frozen=True)
class Unschedulable:
    """It does not fit now, or was not found within the search budget: it waits."""

    explanation: Explanation


@dataclass(frozen=True)
class Infeasible:
    """Proved: it does not even fit into the empty inventory with every machine in service."""

    explanation: Explanation


Decision = Placed | Unschedulable | Infeasible
