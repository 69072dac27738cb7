"""A second, simple account of what stands where: it judges placements, and shares no arithmetic with them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.domain.inventory import Inventory, Load, MachineState, usable
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.rules import Spread
from pipeline.simulation.scenario import Job, Shape

_SLACK = 1e-6


class Ledger:
    """Promised amounts, machines x dimensions, and the load that machines really bear, in vcpu."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.row = {machine.name: at for at, machine in enumerate(inventory.machines)}
        names = {zone.name: at for at, zone in enumerate(inventory.zones)}
        self.zone = np.array([names[machine.zone] for machine in inventory.machines])
        self.usable = np.array(usable(inventory))
        self.vcpu = np.array([machine.capacity.get("vcpu", math.inf) for machine in inventory.machines])
        self.used = np.zeros_like(self.usable)
        self.load = np.zeros(len(self.row))
        self.down: set[int] = set()
        self.placed: dict[str, Mapping[str, tuple[str, ...]]] = {}
        self._unshown: dict[str, tuple[float, list[tuple[int, float]]]] = {}
        self._ramp_s = inventory.limits.ramp_s if inventory.limits else 0.0
        self._measured: tuple[float, npt.NDArray[np.float64]] = (-math.inf, np.zeros(len(self.row)))

    def add(self, job: Job, machines: Mapping[str, tuple[str, ...]]) -> int:
        """Count an environment; how many machines it overbooked, or found out of service."""
        self.placed[job.id] = machines
        rows = self._count(job.shape, machines, 1)
        loads = [(self.row[name], role.demand[0]) for role in job.shape.roles for name in machines[role.role]]
        self._unshown[job.id] = (math.inf, loads)
        over = (self.used[rows] > self.usable[rows] * (1 + _SLACK)).any(axis=1)
        return int(over.sum()) + len(self.down.intersection(rows))

    def remove(self, job: Job) -> Mapping[str, tuple[str, ...]]:
        """Forget an environment; where it stood."""
        machines = self.placed.pop(job.id)
        self._unshown.pop(job.id, None)
        self._count(job.shape, machines, -1)
        return machines

    def _count(self, shape: Shape, machines: Mapping[str, tuple[str, ...]], sign: int) -> list[int]:
        rows = []
        for role in shape.roles:
            for name in machines[role.role]:
                rows.append(self.row[name])
                self.used[rows[-1]] += sign * np.asarray(role.demand)
        return sorted(set(rows))

    def built(self, job: Job, now: float) -> None:
        """It bears its load from now on; measurements show it a little later."""
        self._unshown[job.id] = (now, self._unshown[job.id][1])
        self.bear(job, 1)

    def bear(self, job: Job, sign: int) -> None:
        """Begin, or end, to use what an environment uses."""
        for role in job.shape.roles:
            for name in self.placed[job.id][role.role]:
                self.load[self.row[name]] += sign * role.demand[0] * job.shape.busy

    def measure(self, now: float) -> dict[str, Load]:
        """The loads of this moment."""
        shares = (self.load / self.vcpu).tolist()
        return {name: Load(now, {"vcpu": max(0.0, shares[row])}) for name, row in self.row.items()}

    def know(self, loads: Mapping[str, Load]) -> None:
        """Take the measurement that everybody knows now."""
        at = next(iter(loads.values())).at
        known = np.array([loads[name].used["vcpu"] for name in self.row]) * self.vcpu
        self._measured = (at, known)
        self._unshown = {id: one for id, one in self._unshown.items() if one[0] + self._ramp_s >= at}

    def hot(self) -> npt.NDArray[np.bool_]:
        """The machines that really bear more than the inventory's limit."""
        limits = self.inventory.limits
        full = limits.full.get("vcpu", math.inf) if limits else math.inf
        return np.asarray(self.load > self.vcpu * full * (1 + _SLACK))

    def could_keep(self, shape: Shape) -> bool:
        """Whether a first fit finds a place for all of it: then a refusal would be wrong."""
        free = self.usable - self.used
        room = self._room()
        return all(self._fits(role, free, room) for role in shape.roles)

    def _room(self) -> npt.NDArray[np.float64]:
        limits = self.inventory.limits
        if limits is None:
            return np.full(len(self.row), np.inf)
        known = self._measured[1].copy()
        for _, loads in self._unshown.values():
            for row, vcpu in loads:
                known[row] += vcpu
        return np.asarray(self.vcpu * limits.full.get("vcpu", math.inf) - known)

    def _fits(self, role: RoleRequest, free: npt.NDArray[np.float64], room: npt.NDArray[np.float64]) -> bool:
        """Place a role, first fit; `free` and `room` lose what it takes."""
        permitted = np.array([_permits(role, one.aggregates) for one in self.inventory.machines])
        open_ = permitted & np.array([one.state is MachineState.IN_SERVICE for one in self.inventory.machines])
        most_zone, most_machine = self._bounds(role, permitted)
        zones: Counter[int] = Counter()
        machines: Counter[int] = Counter()
        demand = np.asarray(role.demand)
        for _ in range(role.count):
            fit = open_ & (free >= demand).all(axis=1) & (room >= demand[0])
            full = [zone for zone, n in zones.items() if n >= most_zone]
            fit &= ~np.isin(self.zone, full)
            fit[[row for row, n in machines.items() if n >= most_machine]] = False
            if not fit.any():
                return False
            row = int(fit.argmax())
            free[row] -= demand
            room[row] -= demand[0]
            zones[int(self.zone[row])] += 1
            machines[row] += 1
        return True

    def _bounds(self, role: RoleRequest, permitted: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """How many nodes of the role a zone and a machine may take."""
        rules = role.rules
        most_zone: float = rules.max_per_zone or math.inf
        if rules.spread is Spread.ZONE:
            most_zone = min(most_zone, math.ceil(role.count / max(1, len(set(self.zone[permitted].tolist())))))
        machine = math.ceil(role.count / max(1, int(permitted.sum()))) if rules.spread is Spread.MACHINE else math.inf
        return most_zone, machine


def _permits(role: RoleRequest, aggregates: tuple[str, ...]) -> bool:
    return all(set(rule.values) & set(aggregates) for rule in role.rules.affinities)
