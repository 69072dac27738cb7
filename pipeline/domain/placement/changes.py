"""What somebody may change so that a request finds its place: each a value that says itself to a person and can be
applied by a program.

What leaves a machine or a zone, what comes back, what is added; or what the request gives up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain.placement.units import amount, demand
from pipeline.domain.resources import Vector
from pipeline.domain.rules import Affinity, BareMetal, Spread, Within


@dataclass(frozen=True)
class Free:
    """So much of what is promised on a machine is given back."""

    machine: str
    room: Vector

    def __str__(self) -> str:
        return f"free {demand(self.room)} on machine {self.machine}"


@dataclass(frozen=True)
class FreeUplink:
    """So many bits/s that are promised of a zone's uplink, in and out, are given back."""

    zone: str
    network_in: float
    network_out: float

    def __str__(self) -> str:
        rates = [("network_in", self.network_in), ("network_out", self.network_out)]
        told = ", ".join(amount(name, rate) for name, rate in rates if rate)
        return f"free {told} of the uplink of zone {self.zone}"


@dataclass(frozen=True)
class GiveBack:
    """An environment ends, and all of its nodes with it."""

    environment: str
    nodes: int

    def __str__(self) -> str:
        return f"give environment {self.environment} back ({_count(self.nodes, 'node')})"


@dataclass(frozen=True)
class Clear:
    """All that stands on a machine leaves it."""

    machine: str

    def __str__(self) -> str:
        return f"wait until machine {self.machine}, which is leased whole, is given back"


@dataclass(frozen=True)
class MoveServices:
    """The nodes of some services leave a machine."""

    machine: str
    services: tuple[str, ...]

    def __str__(self) -> str:
        return f"move {' and '.join(self.services)} off machine {self.machine}"


@dataclass(frozen=True)
class FinishBuilds:
    """So many of the builds on a machine are over."""

    machine: str
    builds: int

    def __str__(self) -> str:
        return f"wait until {_count(self.builds, 'build')} on machine {self.machine} {_be(self.builds)} over"


@dataclass(frozen=True)
class Measure:
    """A machine's load is measured again, and found to be no higher than it was known."""

    machine: str

    def __str__(self) -> str:
        return f"let the provider measure machine {self.machine} again"


@dataclass(frozen=True)
class Unload:
    """The measured load of a machine falls by so much of what it has."""

    machine: str
    room: Vector

    def __str__(self) -> str:
        return f"wait until the load of machine {self.machine} has fallen by {demand(self.room)}"


@dataclass(frozen=True)
class ReturnToService:
    """A machine that is out of service comes back."""

    machine: str

    def __str__(self) -> str:
        return f"put machine {self.machine} back in service"


@dataclass(frozen=True)
class AddMachines:
    """Machines like one that is there are added to its zone; `least` is what each of them must have."""

    count: int
    like: str
    zone: str
    least: Vector = ()

    def __str__(self) -> str:
        having = f" with at least {demand(self.least)} each" if self.least else ""
        return f"add {_count(self.count, 'machine')} like {self.like}{having} to zone {self.zone}"


@dataclass(frozen=True)
class LowerCount:
    """A role asks for fewer nodes."""

    role: str
    to: int

    def __str__(self) -> str:
        return f"ask for at most {_count(self.to, 'node')} of role {self.role}"


@dataclass(frozen=True)
class AskLess:
    """Each node of a role takes less of one dimension."""

    role: str
    dimension: str
    to: float

    def __str__(self) -> str:
        return f"ask for at most {amount(self.dimension, self.to)} for each node of role {self.role}"


@dataclass(frozen=True)
class DropRule:
    """A role gives up a rule about machines."""

    role: str
    rule: Affinity

    def __str__(self) -> str:
        return f"take the rule of role {self.role} back: {self.rule}"


@dataclass(frozen=True)
class RaiseZoneShare:
    """More nodes of a role may stand in one zone."""

    role: str
    to: int

    def __str__(self) -> str:
        return f"let {_count(self.to, 'node')} of role {self.role} into one zone (`max_per_zone: {self.to}`)"


@dataclass(frozen=True)
class Gather:
    """The nodes of a role need not be spread."""

    role: str
    spread: Spread

    def __str__(self) -> str:
        return f"let nodes of role {self.role} stand together (drop `spread: {self.spread}`)"


@dataclass(frozen=True)
class LeaveNear:
    """A role need not be near another one."""

    role: str
    near: str

    def __str__(self) -> str:
        return f"let role {self.role} stand in other zones than {self.near} (drop `near: {self.near}`)"


@dataclass(frozen=True)
class LeaveService:
    """A role need not be near a service."""

    role: str
    service: str

    def __str__(self) -> str:
        return f"let role {self.role} stand away from service {self.service} (drop `near`)"


@dataclass(frozen=True)
class FallBack:
    """A role that requires bare metal takes virtual machines where there is none."""

    role: str

    def __str__(self) -> str:
        return f"let role {self.role} fall back to virtual machines (`bare_metal: {BareMetal.WANTED}`)"


@dataclass(frozen=True)
class ShareMachines:
    """A role gives up what services it shares no machine with."""

    role: str
    apart_from: tuple[str, ...]

    def __str__(self) -> str:
        return f"let role {self.role} share machines with {' and '.join(self.apart_from)} (drop `apart_from`)"


@dataclass(frozen=True)
class LetSpread:
    """The environment need not stay within one zone or region."""

    within: Within

    def __str__(self) -> str:
        return f"let the environment spread over {self.within}s (drop `within: {self.within}`)"


#: What happens to machines and to what stands on them; what a request gives up.
WorldChange = (
    Free
    | FreeUplink
    | GiveBack
    | Clear
    | MoveServices
    | FinishBuilds
    | Measure
    | Unload
    | ReturnToService
    | AddMachines
)
RequestChange = (
    LowerCount
    | AskLess
    | DropRule
    | RaiseZoneShare
    | Gather
    | LeaveNear
    | LeaveService
    | FallBack
    | ShareMachines
    | LetSpread
)
Change = WorldChange | RequestChange


@dataclass(frozen=True)
class Remedy:
    """What to do, all of its steps: after them the request is placed, or is refused for that reason no more."""

    steps: tuple[Change, ...]

    def __str__(self) -> str:
        return " and ".join(map(str, self.steps))


def combined(steps: Sequence[Change]) -> tuple[Change, ...]:
    """The same steps with those about one machine or uplink made one, and what leaves machines first: what is to be
    freed besides is counted after that.
    """
    sums: dict[object, Change] = {}
    for step in steps:
        key = _subject(step)
        sums[key] = _plus(sums[key], step) if key in sums else step
    return tuple(sorted(sums.values(), key=lambda step: not isinstance(step, GiveBack | Clear | MoveServices)))


def _subject(step: Change) -> object:
    if isinstance(step, Free | Unload | FinishBuilds):
        return type(step), step.machine
    if isinstance(step, FreeUplink):
        return type(step), step.zone
    return step


def _plus(one: Change, other: Change) -> Change:
    if isinstance(one, Free) and isinstance(other, Free):
        return Free(one.machine, _sum(one.room, other.room))
    if isinstance(one, Unload) and isinstance(other, Unload):
        return Unload(one.machine, _sum(one.room, other.room))
    if isinstance(one, FinishBuilds) and isinstance(other, FinishBuilds):
        return FinishBuilds(one.machine, one.builds + other.builds)
    if isinstance(one, FreeUplink) and isinstance(other, FreeUplink):
        return FreeUplink(one.zone, one.network_in + other.network_in, one.network_out + other.network_out)
    return one


def _sum(one: Vector, other: Vector) -> Vector:
    return tuple(a + b for a, b in zip(one, other, strict=True))


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _be(number: int) -> str:
    return "is" if number == 1 else "are"
