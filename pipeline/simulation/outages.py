"""Which machines are out of service, and why: down, or quarantined for a while, or both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from pipeline.domain.inventory import Inventory, Machine, MachineState, on_probation, proved, quarantined


class Outages:
    """Each machine as it would be if it were up, and how many causes keep it down: it is back when the last is over."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._up = {machine.name: machine for machine in inventory.machines}
        self._down: Counter[str] = Counter()

    def begin(self, machines: Iterable[str], now: float, why: str) -> Inventory:
        """Machines go down; the inventory as it is now."""
        names = set(machines)
        self._down.update(names)
        return self._show(names, now, why)

    def end(self, machines: Iterable[str], now: float) -> Inventory:
        """One cause is over; the inventory as it is now."""
        names = set(machines)
        self._down.subtract(names)
        return self._show(names, now)

    def quarantine(self, machines: Mapping[str, str], now: float) -> Inventory:
        """Suspect machines, each with why, are out until their `back_at`; the inventory as it is now."""
        self._up |= {name: quarantined(self._up[name], now, why) for name, why in machines.items()}
        return self._show(machines, now)

    def release(self, machine: str, now: float) -> Inventory:
        """The quarantine of a machine is over: it is on probation; the inventory as it is now."""
        self._up[machine] = on_probation(self._up[machine], now)
        return self._show([machine], now)

    def prove(self, machines: Iterable[str], now: float) -> Inventory:
        """Builds on machines that were on probation succeeded; the inventory as it is now."""
        names = list(machines)
        self._up |= {name: proved(self._up[name]) for name in names}
        return self._show(names, now)

    def _show(self, names: Iterable[str], now: float, why: str = "") -> Inventory:
        changed = set(names)
        machines = (self._as_it_is(one, now, why) if one.name in changed else one for one in self.inventory.machines)
        self.inventory = replace(self.inventory, machines=tuple(machines))
        return self.inventory

    def _as_it_is(self, shown: Machine, now: float, why: str) -> Machine:
        if not self._down[shown.name]:
            return self._up[shown.name]
        return shown.to(MachineState.DOWN, now, why)
