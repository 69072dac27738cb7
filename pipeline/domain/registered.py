"""Registered machines: servers that stand already, are leased whole, and are cleaned between two leases.

Every change that the machine itself has to follow counts its `turn` up. What is told to the machine names the turn, and
the machine refuses one that is older than the last it heard of: whoever comes late changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.domain import inventory
from pipeline.domain.errors import CapacityError, InvalidTransition, PermanentError, UserError
from pipeline.domain.inventory import Aggregate, Inventory, Machine, MachineKind, MachineState, Zone


class Use(StrEnum):
    """What a registered machine is used for. A dirty one is about to be cleaned, a quarantined one could not be."""

    FREE = "free"
    LEASED = "leased"
    DIRTY = "dirty"
    QUARANTINED = "quarantined"


TRANSITIONS: Mapping[Use, frozenset[Use]] = {
    Use.FREE: frozenset({Use.LEASED, Use.DIRTY}),
    Use.LEASED: frozenset({Use.DIRTY}),
    Use.DIRTY: frozenset({Use.FREE, Use.QUARANTINED}),
    Use.QUARANTINED: frozenset({Use.DIRTY}),
}
#: How the reasons begin that a state in the inventory has from here; a state with another reason is an operator's.
CLEANING, DEAD, SPOILED = "it is being cleaned", "it does not answer: ", "its cleaning failed: "
OURS = (CLEANING, DEAD, SPOILED)
#: So many visits in turn must fail before a machine counts as down.
MISSES = 2
#: How much longer than its reset a cleaning may take, in seconds; after that whoever cleaned was lost.
CLEANING_GRACE_S = 60.0
#: A cleaning that did not reach its machine is tried again so much later, in seconds.
AGAIN_S = 10.0
#: So many tries of one cleaning may lose their machine: a reset that reboots it every time never ends.
MOST_TRIES = 10


@dataclass(frozen=True)
class Login:
    """How the service logs in with its own key; only this host key (`ssh-ed25519 AAAA…`) is believed."""

    address: str
    host_key: str
    port: int = 22
    user: str = "root"


@dataclass(frozen=True)
class Lease:
    """Whose the machine is: one node of an environment. `open`: its keys are installed; `fault`: why they are not."""

    deployment: str
    environment: str
    node: str
    ends_at: float
    open: bool = False
    fault: str = ""


@dataclass(frozen=True)
class Registered:
    """One registered machine. Times are seconds since the epoch.

    `reset` is the command that cleans it, as root, within `reset_s` seconds. `reason` says why it is quarantined, and
    `fault` why it is down. `cleaning_until`: somebody cleans it until then, or nobody tries before. So many `tries`
    lost it on the way.
    """

    provider: str
    name: str
    login: Login
    zone: str
    reset: str
    kind: MachineKind = MachineKind.BARE_METAL
    reset_s: float = 300.0
    aggregates: tuple[str, ...] = ()
    features: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    capacity: Mapping[str, float] = field(default_factory=dict)
    registered_at: float = 0.0
    use: Use = Use.DIRTY
    since: float = 0.0
    reason: str = ""
    turn: int = 0
    lease: Lease | None = None
    cleaning_until: float = 0.0
    tries: int = 0
    misses: int = 0
    fault: str = ""

    @property
    def id(self) -> str:
        return f"{self.provider}.{self.name}"

    @property
    def word(self) -> str:
        """Its state in one word, as a person is told it."""
        return "down" if self.fault else str(self.use)

    @property
    def used_by(self) -> str:
        """The node whose machine it is; empty when it is nobody's."""
        return "" if self.lease is None else f"{self.lease.environment}/{self.lease.node}"

    def to(self, use: Use, now: float, *, reason: str = "", lease: Lease | None = None) -> Registered:
        """The machine in another use, at its next turn; InvalidTransition when there is no way there."""
        if use not in TRANSITIONS[self.use]:
            raise InvalidTransition(f"machine {self.name} is {self.use}, and cannot be {use} from there")
        turn = self.turn + 1
        return replace(self, use=use, since=now, reason=reason, lease=lease, turn=turn, cleaning_until=0.0, tries=0)

    def is_of(self, environment_id: str, nodes: Collection[str] | None = None) -> bool:
        """Whether it is leased to an environment, as one of these nodes (None: any)."""
        lease = self.lease
        return lease is not None and lease.environment == environment_id and (nodes is None or lease.node in nodes)


@dataclass(frozen=True)
class Wanted:
    """A node that wants a machine: the one that placement named, else any free one with its image."""

    node: str
    image: str
    machine: str = ""


def checked(one: Registered) -> Registered:
    """The machine, if it can be registered so; UserError says what is wrong."""
    if one.kind is MachineKind.HYPERVISOR:
        raise UserError(f"machine {one.name}: a registered machine is bare-metal or vm, and is leased whole")
    if not one.reset.strip():
        raise UserError(f"machine {one.name}: it needs a reset command, which cleans it between two leases")
    if not one.images:
        raise UserError(f"machine {one.name}: name the image that is installed on it, as blueprints do")
    if not one.reset_s > 0:
        raise UserError(f"machine {one.name}: a reset of {one.reset_s:g} s makes no sense")
    inventory.checked(inventory_of([one]))
    return one


def claimed(
    machines: Sequence[Registered], wanted: Sequence[Wanted], mark: Lease, now: float
) -> tuple[Registered, ...]:
    """Free machines, leased to those of the wanted nodes that have none yet; all of these or none.

    `mark` is the lease of each but for its node. CapacityError when one is missing or not free, PermanentError when
    there is no such machine or no such image.
    """
    _check_images(machines, wanted)
    has = {one.lease.node for one in machines if one.lease is not None and one.is_of(mark.environment)}
    taken: dict[str, Registered] = {}
    for one in sorted((one for one in wanted if one.node not in has), key=lambda one: not one.machine):
        found = _free(machines, one, taken)
        taken[found.name] = found.to(Use.LEASED, now, lease=replace(mark, node=one.node))
    return tuple(taken.values())


def _check_images(machines: Sequence[Registered], wanted: Iterable[Wanted]) -> None:
    known = images_of(machines)
    for one in wanted:
        if one.image not in known:
            there = ", ".join(sorted(known)) or "none"
            raise PermanentError(f"node {one.node}: no machine has the image {one.image!r}; there are: {there}")


def _free(machines: Sequence[Registered], wanted: Wanted, taken: Collection[str]) -> Registered:
    named = [one for one in machines if wanted.machine in {"", one.name}]
    if not named:
        raise PermanentError(f"node {wanted.node}: no machine {wanted.machine} is registered")
    for one in named:
        usable = one.use is Use.FREE and not one.fault and one.name not in taken
        if usable and wanted.image in one.images:
            return one
    what = f"machine {wanted.machine} is {_why_not(named[0])}" if wanted.machine else "no machine of its image is free"
    raise CapacityError(f"node {wanted.node}: {what}")


def _why_not(one: Registered) -> str:
    return f"{one.word} ({one.fault or one.reason or one.used_by or 'by another node of it'})"


def opened(one: Registered, fault: str) -> Registered:
    """The lease after its keys were installed, or could not be."""
    return one if one.lease is None else replace(one, lease=replace(one.lease, open=not fault, fault=fault))


def lease_of(one: Registered) -> Lease:
    """The lease; InvalidTransition when it is nobody's."""
    if one.lease is None:
        raise InvalidTransition(f"machine {one.name} is leased to nobody")
    return one.lease


def ending(one: Registered, ends_at: float) -> Registered:
    """The machine with another end of its lease, if it has one."""
    return one if one.lease is None else replace(one, lease=replace(one.lease, ends_at=ends_at))


def given_back(one: Registered, now: float) -> Registered:
    """The machine after its lease: nobody gets it before it is clean."""
    return one.to(Use.DIRTY, now) if one.use is Use.LEASED else one


def may_be_cleaned(one: Registered, now: float) -> bool:
    """Whether it waits for a cleaning that nobody does, and can be reached."""
    return one.use is Use.DIRTY and not one.fault and one.cleaning_until <= now


def being_cleaned(one: Registered, now: float) -> Registered:
    """Somebody cleans it now, at a turn of his own."""
    return replace(one, turn=one.turn + 1, cleaning_until=now + one.reset_s + CLEANING_GRACE_S)


def cleaned_later(one: Registered, now: float, why: str) -> Registered:
    """It was lost on the way; nobody tries again at once, and nobody for ever."""
    if one.tries + 1 >= MOST_TRIES:
        return one.to(Use.QUARANTINED, now, reason=f"it was lost {MOST_TRIES} times while it was cleaned: {why}")
    return replace(one, cleaning_until=now + AGAIN_S, tries=one.tries + 1)


def to_be_cleaned(one: Registered, now: float) -> Registered:
    """It is cleaned (again) before anybody gets it; InvalidTransition while it is leased."""
    if one.use is Use.LEASED:
        raise InvalidTransition(f"machine {one.name} is leased to {one.used_by}: destroy that first")
    return one if one.use is Use.DIRTY else one.to(Use.DIRTY, now)


def missed(one: Registered, why: str) -> Registered:
    """A visit found nobody; after some of these the machine is down."""
    misses = min(one.misses + 1, MISSES)
    return replace(one, misses=misses, fault=(one.fault or why) if misses >= MISSES else one.fault)


def answered(one: Registered, now: float) -> Registered:
    """A visit was answered; a machine that was down and is nobody's is cleaned before anybody gets it."""
    back = replace(one, misses=0, fault="", cleaning_until=0.0 if one.fault else one.cleaning_until)
    return to_be_cleaned(back, now) if one.fault and one.use is Use.FREE else back


def images_of(machines: Iterable[Registered]) -> frozenset[str]:
    """Every image that one of these machines has."""
    return frozenset[str]().union(*(one.images for one in machines))


def inventory_of(machines: Sequence[Registered]) -> Inventory:
    """The machines as placement knows them."""
    zones = dict.fromkeys(one.zone for one in machines)
    aggregates = dict.fromkeys(name for one in machines for name in one.aggregates)
    return Inventory(tuple(map(as_machine, machines)), tuple(map(Zone, zones)), tuple(map(Aggregate, aggregates)))


def joined(declared: Inventory, machines: Sequence[Registered]) -> Inventory:
    """What is declared or reported of a provider, and the machines that are registered beside it."""
    if not machines:
        return declared
    own = inventory_of(machines)
    zones, aggregates = {one.name for one in declared.zones}, {one.name for one in declared.aggregates}
    return replace(
        declared,
        machines=(*(one for one in declared.machines if not one.registered), *own.machines),
        zones=(*declared.zones, *(one for one in own.zones if one.name not in zones)),
        aggregates=(*declared.aggregates, *(one for one in own.aggregates if one.name not in aggregates)),
    )


def without(known: Inventory) -> Inventory:
    """What is known of a provider without its registered machines."""
    return replace(known, machines=tuple(one for one in known.machines if not one.registered))


def as_machine(one: Registered) -> Machine:
    state, reason = _state(one)
    return Machine(
        name=one.name,
        zone=one.zone,
        capacity=one.capacity,
        aggregates=one.aggregates,
        kind=one.kind,
        features=one.features,
        images=one.images,
        state=state,
        state_reason=reason,
        state_since=one.since,
        registered=True,
    )


def followed(machine: Machine, one: Registered, now: float) -> Machine:
    """The inventory's machine after its use changed; a state that an operator gave it stays."""
    if machine.state is not MachineState.IN_SERVICE and not machine.state_reason.startswith(OURS):
        return machine
    state, reason = _state(one)
    return machine if state is machine.state else machine.to(state, now, reason)


def _state(one: Registered) -> tuple[MachineState, str]:
    if one.fault:
        return MachineState.DOWN, f"{DEAD}{one.fault}"
    if one.use is Use.QUARANTINED:
        return MachineState.QUARANTINED, f"{SPOILED}{one.reason}"
    return (MachineState.DRAINING, CLEANING) if one.use is Use.DIRTY else (MachineState.IN_SERVICE, "")
