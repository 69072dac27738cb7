"""What a scenario says, after it was read and checked. Times are virtual seconds since its begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from pipeline.domain.admission import Use, Waiting
from pipeline.domain.blueprint import Priority
from pipeline.domain.inventory import Inventory
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.requests import away_from
from pipeline.domain.qos import QosClass


@dataclass(frozen=True, eq=False)
class Shape:
    """A kind of environment: its request, how long it builds and is used, which share of its vcpu it really uses."""

    name: str
    request: Request
    builds_s: float
    lasts_s: float
    most_s: float
    busy: float

    @property
    def roles(self) -> tuple[RoleRequest, ...]:
        return self.request.roles

    @cached_property
    def use(self) -> Use:
        """What it counts against the share of its project."""
        vcpu, memory_mib, disk_gib = (
            sum(role.count * role.demand[dimension] for role in self.roles) for dimension in range(3)
        )
        return Use(self.request.count, vcpu, memory_mib, disk_gib, 1)

    @cached_property
    def guaranteed(self) -> bool:
        return any(role.qos_class is QosClass.GUARANTEED for role in self.roles)

    @cached_property
    def best_effort(self) -> bool:
        return all(role.qos_class is QosClass.BEST_EFFORT for role in self.roles)


@dataclass(frozen=True)
class Stream:
    """Runs of one priority: `per_hour` by hour of the day; shapes and projects by their weights."""

    priority: Priority
    per_hour: tuple[float, ...]
    shapes: Mapping[str, float]
    projects: Mapping[str, float]


@dataclass(frozen=True)
class Storm:
    """`runs` that arrive evenly within `over_s`, beside the streams."""

    at: float
    runs: int
    over_s: float
    stream: Stream


@dataclass(frozen=True)
class Outage:
    """Machines that are down from `at` for `back_s`; what stood there is lost. `why` is told as their reason."""

    at: float
    machines: frozenset[str]
    back_s: float
    why: str


class Subject(StrEnum):
    """What may be at fault for failed builds."""

    MACHINE = "machine"
    SHAPE = "shape"
    IMAGE = "image"


@dataclass(frozen=True)
class Bad:
    """Every build on these machines, or of these shapes or images, fails from `at` for `back_s`."""

    at: float
    subject: Subject
    names: tuple[str, ...]
    back_s: float

    @property
    def faults(self) -> frozenset[tuple[Subject, str]]:
        return frozenset((self.subject, name) for name in self.names)


@dataclass(frozen=True)
class Deaths:
    """Machines that die by chance, so many an hour of all of them, each for `back_s`."""

    per_hour: float = 0.0
    back_s: float = 0.0


@dataclass(frozen=True)
class Metrics:
    """Loads are measured every `every_s`, and known `lag_s` later."""

    lag_s: float = 20.0
    every_s: float = 60.0


@dataclass(frozen=True)
class Scenario:
    """A whole scenario; the same one with the same `seed` gives the same result. Shapes are by name, then project."""

    name: str
    seed: int
    lasts_s: float
    inventory: Inventory
    projects: Mapping[str, float]
    shapes: Mapping[str, Mapping[str, Shape]]
    streams: tuple[Stream, ...]
    events: tuple[Storm | Outage | Bad, ...]
    deaths: Deaths = field(default_factory=Deaths)
    metrics: Metrics = field(default_factory=Metrics)
    tick_s: float = 1.0


@dataclass
class Job:
    """One run of the simulation; `since` is when it began to wait, `attempt` how often it was placed. `avoid`: the
    machines on which its builds failed, `placed_again` how often it was placed again for that.
    """

    number: int
    project: str
    priority: Priority
    shape: Shape
    since: float
    lasts_s: float
    attempt: int = 0
    counted: bool = False
    placed_at: float = 0.0
    preempted: int = 0
    avoid: tuple[str, ...] = ()
    placed_again: int = 0

    def __post_init__(self) -> None:
        self.id = f"run-{self.number}"

    @property
    def turn(self) -> Waiting:
        return Waiting(self.id, self.project, self.priority, self.since)

    @property
    def anywhere(self) -> Request:
        """What it asks for, if it must go back to machines where it failed."""
        return replace(self.shape.request, environment=self.id, project=self.project)

    @property
    def request(self) -> Request:
        return away_from(self.anywhere, self.avoid)
