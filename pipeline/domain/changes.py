"""What becomes of an inventory when another one is declared in its place: the same answer for a dry run and a sync."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pipeline.domain.inventory import Inventory, Machine, MachineState

#: Why a machine is down that the file or the driver does not name.
UNDECLARED = "it is not declared any more"
#: How the reason of a state begins that the cloud reports: it follows the cloud, where an operator gave no other.
REPORTED = "the cloud says: "


@dataclass(frozen=True)
class Changes:
    """`changed` has every machine as it was and as it will be; `forgotten` machines are gone, `downed` ones go down.

    `stranded` are all machines that are not declared and stay because of what stands on them, down before or not.
    `frame` is the new inventory without its machines. `others` says what else of it is new, in words.
    """

    added: tuple[Machine, ...]
    changed: tuple[tuple[Machine, Machine], ...]
    forgotten: tuple[Machine, ...]
    downed: tuple[Machine, ...]
    stranded: tuple[Machine, ...]
    frame: Inventory
    others: tuple[str, ...]


def changes(known: Inventory, declared: Inventory, in_use: frozenset[str], now: float) -> Changes:
    """What is declared against what is known; `in_use`: machines on which nodes stand."""
    before = {machine.name: machine for machine in known.machines}
    wanted = {one.name: _with_state(one, before.get(one.name), now) for one in declared.machines}
    missing = [machine for name, machine in before.items() if name not in wanted]
    stranded = tuple(machine for machine in missing if machine.name in in_use)
    frame = _frame(known, declared, stranded)
    return Changes(
        added=tuple(machine for name, machine in wanted.items() if name not in before),
        changed=tuple((before[name], one) for name, one in wanted.items() if name in before and before[name] != one),
        forgotten=tuple(machine for machine in missing if machine.name not in in_use),
        downed=tuple(one.to(MachineState.DOWN, now, UNDECLARED) for one in stranded if not _is_down(one)),
        stranded=stranded,
        frame=frame,
        others=tuple(_others(known, frame)),
    )


def differences(before: Machine, after: Machine) -> tuple[str, ...]:
    """What of a machine changes, in words: `memory_mib 65536 -> 32768`."""
    plain = ("zone", "kind", "aggregates", "features", "images", "max_builds", "state")
    told = [
        f"{name} {_shown(getattr(before, name))} -> {_shown(getattr(after, name))}"
        for name in plain
        if getattr(before, name) != getattr(after, name)
    ]
    told += _amounts("", before.capacity, after.capacity)
    told += _amounts("overcommit ", before.overcommit, after.overcommit)
    return tuple(told)


def _with_state(declared: Machine, known: Machine | None, now: float) -> Machine:
    """What is declared, in the state that it has; one that was missing for a while comes back as declared.

    What the cloud reports takes a machine out of service, and its end puts it back.
    """
    if known is None or (_is_down(known) and known.state_reason == UNDECLARED):
        return declared
    if is_reported(known) or (is_reported(declared) and known.state is MachineState.IN_SERVICE):
        reported = replace(known, state=declared.state, state_reason=declared.state_reason, state_since=now)
        same = (known.state, known.state_reason) == (declared.state, declared.state_reason)
        known = known if same else reported
    return replace(
        declared,
        state=known.state,
        state_reason=known.state_reason,
        state_since=known.state_since,
        back_at=known.back_at,
        quarantines=known.quarantines,
        probation=known.probation,
    )


def is_reported(machine: Machine) -> bool:
    """Whether its state is what the cloud says, and nobody else."""
    return machine.state_reason.startswith(REPORTED)


def _is_down(machine: Machine) -> bool:
    return machine.state is MachineState.DOWN


def _frame(known: Inventory, declared: Inventory, stranded: Iterable[Machine]) -> Inventory:
    """What is declared, and the zones and aggregates of what stays without being declared: it stands somewhere."""
    zones = {machine.zone for machine in stranded} - {zone.name for zone in declared.zones}
    aggregates = {name for machine in stranded for name in machine.aggregates}
    aggregates -= {aggregate.name for aggregate in declared.aggregates}
    return replace(
        declared,
        machines=(),
        zones=(*declared.zones, *(zone for zone in known.zones if zone.name in zones)),
        aggregates=(*declared.aggregates, *(one for one in known.aggregates if one.name in aggregates)),
    )


def _others(known: Inventory, frame: Inventory) -> Iterator[str]:
    for what, read in _NAMED.items():
        before, after = ({one.name: one for one in read(inventory)} for inventory in (known, frame))
        yield from (f"{what} {name} is added" for name in after if name not in before)
        yield from (f"{what} {name} is gone" for name in before if name not in after)
        yield from (f"{what} {name} changes" for name in after if name in before and after[name] != before[name])
    for name in ("overcommit", "spare_zones", "limits"):
        if getattr(known, name) != getattr(frame, name):
            yield f"{name} changes: {_shown(getattr(known, name))} -> {_shown(getattr(frame, name))}"


_NAMED: Mapping[str, Callable[[Inventory], Iterable[Any]]] = {
    "zone": lambda inventory: inventory.zones,
    "aggregate": lambda inventory: inventory.aggregates,
    "rule": lambda inventory: inventory.rules,
}


def _amounts(prefix: str, before: Mapping[str, float], after: Mapping[str, float]) -> list[str]:
    names = [name for name in dict.fromkeys((*before, *after)) if before.get(name) != after.get(name)]
    return [f"{prefix}{name} {_shown(before.get(name))} -> {_shown(after.get(name))}" for name in names]


def _shown(value: object) -> str:
    if value is None:
        return "not limited"
    if isinstance(value, float | int):
        return f"{value:.12g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items()) or "none"
    if isinstance(value, frozenset | tuple):
        return ", ".join(sorted(map(str, value))) or "none"
    return str(value)
