"""The machines of a provider: where they stand, what they hold, in which state they are, how loaded they were seen."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain.errors import NotFound, UserError
from pipeline.domain.resources import DIMENSIONS, UNNAMED, Vector
from pipeline.domain.rules import Attribute, OperatorRule


class MachineKind(StrEnum):
    """A hypervisor takes many nodes; bare metal is leased whole, to one, and so is a virtual machine that stands."""

    HYPERVISOR = "hypervisor"
    BARE_METAL = "bare-metal"
    VM = "vm"


#: These take one node each.
WHOLE = frozenset({MachineKind.BARE_METAL, MachineKind.VM})


class MachineState(StrEnum):
    """Only `in-service` takes nodes; the others say why not."""

    IN_SERVICE = "in-service"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    QUARANTINED = "quarantined"
    DOWN = "down"


@dataclass(frozen=True)
class Load:
    """What was measured at `at` (epoch seconds): the share of each dimension in use, 0 to 1 and above."""

    at: float
    used: Mapping[str, float]


@dataclass(frozen=True)
class Machine:
    """One physical server. `capacity` by dimension; one that is not named is not limited, but for huge pages (none).

    `overcommit` by dimension goes before the aggregates' and the inventory's. `max_builds`: nodes that may be built
    on it at a time. `state_since` is epoch seconds.

    `back_at`: when a quarantine that nobody asked for ends (epoch seconds); None: it ends by hand alone.
    `quarantines`: how many of those there were one after the other. `probation`: it came back from one, and takes one
    build at a time until a build on it succeeds. `registered`: it stands in the books beside what is declared.
    """

    name: str
    zone: str
    capacity: Mapping[str, float]
    aggregates: tuple[str, ...] = ()
    kind: MachineKind = MachineKind.HYPERVISOR
    features: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    state: MachineState = MachineState.IN_SERVICE
    state_reason: str = ""
    state_since: float = 0.0
    overcommit: Mapping[str, float] = field(default_factory=dict)
    max_builds: int | None = None
    back_at: float | None = None
    quarantines: int = 0
    probation: bool = False
    registered: bool = False

    def to(self, state: MachineState, now: float, reason: str) -> Machine:
        """The machine in another state; the same one when it is there already.

        Whoever asks takes over: a quarantine does not end by itself any more, a probation is over.
        """
        if state is self.state and self.back_at is None and not self.probation:
            return self
        return replace(self, state=state, state_reason=reason, state_since=now, back_at=None, probation=False)

    @property
    def builds(self) -> int | None:
        """Nodes that may be built on it at a time as it is now; None: any number."""
        return 1 if self.probation else self.max_builds


#: The first quarantine by suspicion in seconds, doubled by each that follows, and the longest.
QUARANTINE_S = 600.0
MAX_QUARANTINE_S = 6 * 3600.0
#: A machine that stood for so long after its return is no old offender any more.
FORGIVEN_S = 24 * 3600.0


def quarantined(machine: Machine, now: float, why: str) -> Machine:
    """The machine in a quarantine that ends by itself, each one after the other twice as long."""
    again = machine.quarantines > 0 and now - machine.state_since <= FORGIVEN_S
    times = machine.quarantines + 1 if again else 1
    back_at = now + min(MAX_QUARANTINE_S, QUARANTINE_S * 2.0 ** min(times - 1, 16))
    out = machine.to(MachineState.QUARANTINED, now, why)
    return replace(out, back_at=back_at, quarantines=times)


def on_probation(machine: Machine, now: float) -> Machine:
    """The machine back from a quarantine that ended by itself; it has to prove that it is well."""
    back = machine.to(MachineState.IN_SERVICE, now, f"on probation, after: {machine.state_reason}")
    return replace(back, probation=True)


def proved(machine: Machine) -> Machine:
    """A build on it succeeded: the probation is over, and is remembered for a while."""
    return replace(machine, probation=False, state_reason="") if machine.probation else machine


@dataclass(frozen=True)
class Zone:
    """A rack. `uplink_in` and `uplink_out`: bits/s that all its machines share; None: not limited."""

    name: str
    region: str = "default"
    uplink_in: float | None = None
    uplink_out: float | None = None


@dataclass(frozen=True)
class Aggregate:
    """A hardware type: what its machines have in common."""

    name: str
    overcommit: Mapping[str, float] = field(default_factory=dict)
    features: frozenset[str] = frozenset()


@dataclass(frozen=True)
class LoadLimits:
    """The overcommit failsafe, for providers that measure: shares of a machine's real capacity.

    At `full` of a dimension a machine takes nothing more; above `drain` its best-effort nodes go. A measurement older
    than `stale_s` counts as full. `ramp_s`: so long after its build a node may take to bear what it will bear, and so
    long before its time a measurement may begin.
    """

    full: Mapping[str, float] = field(default_factory=dict)
    drain: Mapping[str, float] = field(default_factory=dict)
    stale_s: float = 60.0
    ramp_s: float = 5.0


@dataclass(frozen=True)
class Inventory:
    """All machines of one provider.

    `overcommit` is the default ratio by dimension (1 where nothing is said). `spare_zones`: QoS classes of which so
    many nodes keep room elsewhere that any one zone may fail. `limits` is None where nobody measures.
    """

    machines: tuple[Machine, ...]
    zones: tuple[Zone, ...]
    aggregates: tuple[Aggregate, ...] = ()
    overcommit: Mapping[str, float] = field(default_factory=dict)
    rules: tuple[OperatorRule, ...] = ()
    spare_zones: frozenset[str] = frozenset()
    limits: LoadLimits | None = None

    def machine(self, name: str) -> Machine:
        """NotFound names the machine."""
        found = next((machine for machine in self.machines if machine.name == name), None)
        if found is None:
            raise NotFound(f"there is no machine {name}; `greenroom machines` shows all")
        return found


def overcommit_of(machine: Machine, inventory: Inventory) -> Vector:
    """The ratio of each dimension: the machine's, else its first aggregate's, else the default, else 1."""
    by_name = {aggregate.name: aggregate for aggregate in inventory.aggregates}
    return _ratios(machine, by_name, inventory.overcommit)


def _ratios(machine: Machine, by_name: Mapping[str, Aggregate], default: Mapping[str, float]) -> Vector:
    layers = [machine.overcommit, *(by_name[name].overcommit for name in machine.aggregates), default]
    return tuple(next((layer[dim] for layer in layers if dim in layer), 1.0) for dim in DIMENSIONS)


def usable(inventory: Inventory) -> tuple[Vector, ...]:
    """What may be promised of each machine: its capacity times its overcommit; infinite where it is not limited."""
    by_name = {aggregate.name: aggregate for aggregate in inventory.aggregates}
    vectors = []
    for machine in inventory.machines:
        ratios = _ratios(machine, by_name, inventory.overcommit)
        amounts = (machine.capacity.get(dim, UNNAMED[dim]) for dim in DIMENSIONS)
        vectors.append(tuple(amount * ratio for amount, ratio in zip(amounts, ratios, strict=True)))
    return tuple(vectors)


def promisable(inventory: Inventory) -> Mapping[str, Vector]:
    """What may be promised of all machines of each zone; infinite where one of them is not limited."""
    totals = {zone.name: (0.0,) * len(DIMENSIONS) for zone in inventory.zones}
    for machine, amounts in zip(inventory.machines, usable(inventory), strict=True):
        totals[machine.zone] = tuple(map(sum, zip(totals[machine.zone], amounts, strict=True)))
    return totals


_RANGE = re.compile(r"\{(\d{1,6})\.\.(\d{1,6})\}", re.ASCII)
#: Machines of one inventory.
MOST_MACHINES = 100_000


def count_of(pattern: str) -> int:
    """How many names `a-{01..16}` stands for; ValueError when it stands for none, or for too many."""
    match = _RANGE.search(pattern)
    if match is None:
        return 1
    count = int(match[2]) - int(match[1]) + 1
    if not 1 <= count <= MOST_MACHINES:
        raise ValueError(f"expected a range upwards of at most {MOST_MACHINES} machines, got {pattern[:120]!r}")
    return count


def names_of_pattern(pattern: str) -> Iterator[str]:
    """`a-{01..16}` stands for sixteen names, with the digits of its first number; ValueError as `count_of`."""
    match = _RANGE.search(pattern)
    if match is None:
        yield pattern
        return
    first = int(match[1])
    for number in range(first, first + count_of(pattern)):
        yield f"{pattern[: match.start()]}{number:0{len(match[1])}}{pattern[match.end() :]}"


def checked(inventory: Inventory) -> Inventory:
    """The inventory, if it makes sense; UserError lists everything that is wrong in it."""
    wrong = [*_twice(inventory), *_unknown(inventory), *_absurd(inventory)]
    if wrong:
        raise UserError("the inventory cannot be used:\n" + "\n".join(f"  {one}" for one in wrong))
    return inventory


def _twice(inventory: Inventory) -> Iterable[str]:
    kinds: tuple[tuple[str, Iterable[str]], ...] = (
        ("zone", (zone.name for zone in inventory.zones)),
        ("aggregate", (aggregate.name for aggregate in inventory.aggregates)),
        ("machine", (machine.name for machine in inventory.machines)),
        ("rule", (rule.name for rule in inventory.rules)),
    )
    for what, names in kinds:
        yield from (f"{what} {name} stands there {n} times" for name, n in Counter(names).items() if n > 1)


def _unknown(inventory: Inventory) -> Iterable[str]:
    zones = {zone.name for zone in inventory.zones}
    aggregates = {aggregate.name for aggregate in inventory.aggregates}
    for machine in inventory.machines:
        if machine.zone not in zones:
            yield f"machine {machine.name}: there is no zone {machine.zone}"
        for name in machine.aggregates:
            if name not in aggregates:
                yield f"machine {machine.name}: there is no aggregate {name}"
    yield from unknown_names(inventory.rules, [inventory])


def unknown_names(rules: Iterable[OperatorRule], inventories: Sequence[Inventory]) -> Iterable[str]:
    """What rules name that no inventory has."""
    known = [names_of(inventory) for inventory in inventories]
    for rule in rules:
        for affinity in rule.affinities:
            for value in affinity.values:
                if not any(value in names[affinity.attribute] for names in known):
                    yield f"rule {rule.name}: there is no {affinity.attribute} {value}"


def names_of(inventory: Inventory) -> Mapping[Attribute, frozenset[str]]:
    """Every name that a rule may use, by attribute."""
    features = [feature for machine in inventory.machines for feature in machine.features]
    features += [feature for aggregate in inventory.aggregates for feature in aggregate.features]
    return {
        Attribute.REGION: frozenset(zone.region for zone in inventory.zones),
        Attribute.ZONE: frozenset(zone.name for zone in inventory.zones),
        Attribute.AGGREGATE: frozenset(aggregate.name for aggregate in inventory.aggregates),
        Attribute.FEATURE: frozenset(features),
        Attribute.KIND: frozenset(MachineKind),
        Attribute.MACHINE: frozenset(machine.name for machine in inventory.machines),
    }


def traits_of(machine: Machine, attribute: Attribute, inventory: Inventory) -> frozenset[str]:
    """What a rule about an attribute sees of a machine."""
    if attribute is Attribute.AGGREGATE:
        return frozenset(machine.aggregates)
    if attribute is Attribute.FEATURE:
        own = (one.features for one in inventory.aggregates if one.name in machine.aggregates)
        return machine.features.union(*own)
    if attribute is Attribute.REGION:
        return frozenset(zone.region for zone in inventory.zones if zone.name == machine.zone)
    single = {Attribute.ZONE: machine.zone, Attribute.KIND: str(machine.kind), Attribute.MACHINE: machine.name}
    return frozenset({single[attribute]})


def _absurd(inventory: Inventory) -> Iterable[str]:
    for machine in inventory.machines:
        yield from _bad_amounts(f"machine {machine.name}", machine.capacity, "capacity")
        yield from _bad_amounts(f"machine {machine.name}", machine.overcommit, "overcommit")
        if machine.max_builds is not None and machine.max_builds < 1:
            yield f"machine {machine.name}: max_builds {machine.max_builds} is less than 1"
    for aggregate in inventory.aggregates:
        yield from _bad_amounts(f"aggregate {aggregate.name}", aggregate.overcommit, "overcommit")
    yield from _bad_amounts("the default", inventory.overcommit, "overcommit")
    yield from _bad_limits(inventory.limits or LoadLimits())
    for zone in inventory.zones:
        for uplink in (zone.uplink_in, zone.uplink_out):
            if uplink is not None and not _sensible(uplink):
                yield f"zone {zone.name}: an uplink of {uplink} bit/s makes no sense"


def _bad_limits(limits: LoadLimits) -> Iterable[str]:
    """The limits of the load: a machine that drains before it is full would be filled and emptied in turn."""
    yield from _bad_amounts("the limits", limits.full, "full")
    yield from _bad_amounts("the limits", limits.drain, "drain")
    for name in sorted(limits.full.keys() & limits.drain.keys()):
        if limits.drain[name] < limits.full[name]:
            yield f"the limits: drain {limits.drain[name]:g} of {name} is below full {limits.full[name]:g}"
    if not (limits.stale_s > 0 and limits.ramp_s >= 0):
        yield f"the limits: stale {limits.stale_s:g} s and ramp {limits.ramp_s:g} s make no sense"


#: More than this of anything on one machine is a mistake of units.
MOST = 1e15


def _sensible(amount: float) -> bool:
    return math.isfinite(amount) and 0 < amount <= MOST


def _bad_amounts(owner: str, amounts: Mapping[str, float], what: str) -> Iterable[str]:
    for name, amount in amounts.items():
        if name not in DIMENSIONS:
            yield f"{owner}: there is no {what} {name!r}; known are {', '.join(DIMENSIONS)}"
        elif not (_sensible(amount) or (amount == 0 and what == "capacity")):
            yield f"{owner}: a {what} of {amount:g} {name} makes no sense"
