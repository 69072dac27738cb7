"""Where nodes must, may rather, or must not stand: what a blueprint, a project or an operator says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Stance(StrEnum):
    """How firm a rule is: `require` and `forbid` are never broken, `prefer` only weighs."""

    REQUIRE = "require"
    PREFER = "prefer"
    FORBID = "forbid"


class Attribute(StrEnum):
    """What of a machine a rule looks at."""

    REGION = "region"
    ZONE = "zone"
    AGGREGATE = "aggregate"
    FEATURE = "feature"
    KIND = "kind"
    MACHINE = "machine"


@dataclass(frozen=True)
class Affinity:
    """One rule about machines.

    `require`: the machine has at least one of `values`; `forbid`: none of them; `prefer`: better with one.
    `source` says to a person where the rule stands: `greenroom.yml`, `project shop`, `operator rule night-racks`.
    """

    stance: Stance
    attribute: Attribute
    values: tuple[str, ...]
    source: str = "greenroom.yml"

    def __str__(self) -> str:
        return f"{self.stance} {self.attribute} {' or '.join(self.values)} ({self.source})"


class Spread(StrEnum):
    """How the nodes of one role are kept apart; a hard rule.

    No zone (or machine) takes more than its even share: the count divided by the number of zones (or machines) that
    the role's other rules permit, in whatever state they are, rounded up.
    """

    NONE = "none"
    ZONE = "zone"
    MACHINE = "machine"


class BareMetal(StrEnum):
    """How much a workload wants a machine of its own."""

    WANTED = "wanted"
    REQUIRED = "required"


#: The workload that wants bare metal, and takes a virtual machine where there is none.
HIGH_IO = "high-io"


@dataclass(frozen=True)
class PlacementRules:
    """All rules of one role, hard ones first in the order in which they are told.

    `max_per_zone`: at most so many nodes of the role in a zone. `apart_from`: services with which its nodes share no
    machine. `near`: a role of the same environment whose zone its nodes share. `near_service`: a service of the same
    project in whose zones they stand, wherever nodes of it are now; as long as there are none, the request waits.
    `bare_metal`: `wanted` may fall back to a virtual machine, which is recorded; `required` may not.
    `workload` is the blueprint's word for what the role does; operator rules match it. `bound_by` says where
    `max_per_zone` stands. `admitted`: a machine that may take its nodes although it is out of service; only the
    acceptance of that machine says so, no blueprint can.
    """

    affinities: tuple[Affinity, ...] = ()
    spread: Spread = Spread.NONE
    max_per_zone: int | None = None
    apart_from: tuple[str, ...] = ()
    near: str | None = None
    near_service: str | None = None
    bare_metal: BareMetal | None = None
    workload: str | None = None
    bound_by: str = "greenroom.yml"
    admitted: str = ""


class Within(StrEnum):
    """What the whole environment stays in."""

    ANYWHERE = "anywhere"
    REGION = "region"
    ZONE = "zone"


class Strategy(StrEnum):
    """`pack` fills machines up, for tests and nightlies; `spread` keeps them evenly loaded, for staging."""

    PACK = "pack"
    SPREAD = "spread"


@dataclass(frozen=True)
class EnvironmentRules:
    """What one environment asks of placement: `roles` by role; one that is missing has no rules."""

    roles: Mapping[str, PlacementRules] = field(default_factory=dict)
    within: Within = Within.ANYWHERE
    strategy: Strategy = Strategy.PACK


@dataclass(frozen=True)
class OperatorRule:
    """Rules that an operator or a project lays on what matches; an empty field matches everything.

    `match` maps `project`, `service`, `role`, `workload` or `qos_class` to the values it holds for.
    """

    name: str
    match: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    affinities: tuple[Affinity, ...] = ()
    apart_from: tuple[str, ...] = ()
    max_per_zone: int | None = None
