"""Which machines are out of service, and why; one may be so for several reasons at a time."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from pipeline.domain.inventory import Inventory, MachineState

#: The first of these that holds for a machine is its state.
WORST_FIRST = (MachineState.DOWN, MachineState.QUARANTINED)


class Outages:
    """Counts the causes; a machine is back when the last of them is over."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._causes: dict[str, Counter[MachineState]] = defaultdict(Counter)

    def begin(self, machines: Iterable[str], state: MachineState, now: float, why: str) -> Inventory:
        """Take machines out of service; the inventory as it is now."""
        return self._change(machines, state, 1, now, why)

    def end(self, machines: Iterable[str], state: MachineState, now: float) -> Inventory:
        """One cause is over; the inventory as it is now."""
        return self._change(machines, state, -1, now, "")

    def _change(self, machines: Iterable[str], state: MachineState, sign: int, now: float, why: str) -> Inventory:
        names = set(machines)
        for name in names:
            self._causes[name][state] += sign
        changed = tuple(
            one.to(self._state(one.name), now, why) if one.name in names else one for one in self.inventory.machines
        )
        self.inventory = replace(self.inventory, machines=changed)
        return self.inventory

    def _state(self, name: str) -> MachineState:
        holds = (state for state in WORST_FIRST if self._causes[name][state] > 0)
        return next(holds, MachineState.IN_SERVICE)
