"""What a scenario says, after it was read and checked. Times are virtual seconds since its begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from pipeline.domain.admission import Use, Waiting
from pipeline.domain.blueprint import Priority
from pipeline.domain.inventory import Inventory
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.qos import QosClass


@dataclass(frozen=True)
class Shape:
    """A kind of environment: its roles, how long it builds and is used, and which share of its vcpu it really uses."""

    name: str
    roles: tuple[RoleRequest, ...]
    builds_s: float
    lasts_s: float
    most_s: float
    busy: float

    @cached_property
    def use(self) -> Use:
        """What it counts against the share of its project."""
        vcpu, memory_mib, disk_gib = (
            sum(role.count * role.demand[dimension] for role in self.roles) for dimension in range(3)
        )
        return Use(sum(role.count for role in self.roles), vcpu, memory_mib, disk_gib, 1)

    @property
    def guaranteed(self) -> bool:
        return any(role.qos_class is QosClass.GUARANTEED for role in self.roles)

    @property
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
class ZoneLost:
    """A zone that is down from `at` for `back_s`; what stood there is lost."""

    at: float
    zone: str
    back_s: float


@dataclass(frozen=True)
class MachineBad:
    """A machine on which every build fails from `at` for `back_s`."""

    at: float
    machine: str
    back_s: float


@dataclass(frozen=True)
class Metrics:
    """Loads are measured every `every_s`, and known `lag_s` later."""

    lag_s: float = 20.0
    every_s: float = 60.0


@dataclass(frozen=True)
class Scenario:
    """A whole scenario; the same one with the same `seed` gives the same result."""

    name: str
    seed: int
    lasts_s: float
    inventory: Inventory
    projects: Mapping[str, float]
    shapes: Mapping[str, Shape]
    streams: tuple[Stream, ...]
    events: tuple[Storm | ZoneLost | MachineBad, ...]
    metrics: Metrics
    tick_s: float = 1.0


@dataclass
class Job:
    """One run of the simulation; `since` is when it began to wait, `attempt` how often it was placed."""

    number: int
    project: str
    priority: Priority
    shape: Shape
    since: float
    lasts_s: float
    attempt: int = 0
    counted: bool = False

    @property
    def id(self) -> str:
        return f"run-{self.number}"

    @property
    def turn(self) -> Waiting:
        return Waiting(self.id, self.project, self.priority, self.since)

    @property
    def request(self) -> Request:
        return Request(self.id, self.project, self.shape.name, self.shape.roles)
