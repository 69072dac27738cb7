"""A second, simple account of what stands where: it judges placements, and shares no arithmetic with them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from pipeline.domain.inventory import Inventory, Load, MachineState, usable
from pipeline.domain.placement.model import RoleRequest
from pipeline.simulation.scenario import Job

_SLACK = 1e-6
#: vcpu, memory and disk are what a lost zone would need elsewhere.
SPARE = slice(0, 3)
#: Where network_in and network_out stand in a demand.
NETWORK = slice(7, 9)
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Machines = Mapping[str, tuple[str, ...]]


class Ledger:
    """Promised amounts, machines x dimensions, and the load that machines really bear, in vcpu."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.row = {machine.name: at for at, machine in enumerate(inventory.machines)}
        names = {zone.name: at for at, zone in enumerate(inventory.zones)}
        self.zone = np.array([names[machine.zone] for machine in inventory.machines])
        self.usable: Floats = np.array(usable(inventory))
        self._most = self.usable * (1 + _SLACK)
        self.vcpu = np.array([machine.capacity.get("vcpu", math.inf) for machine in inventory.machines])
        self.used: Floats = np.zeros_like(self.usable)
        self.load = np.zeros(len(self.row))
        self.nodes = np.zeros(len(self.row), dtype=int)
        self.building = np.zeros(len(self.row), dtype=int)
        self.services: dict[int, Counter[str]] = defaultdict(Counter)
        self.shunned: dict[int, Counter[str]] = defaultdict(Counter)
        self.uplink: Floats = np.zeros((len(inventory.zones), 2))
        self.kept: Floats = np.zeros((len(inventory.zones), 3))
        self.placed: dict[str, Machines] = {}
        self._unshown: dict[str, tuple[float, list[tuple[int, float]]]] = {}
        self._ramp_s = inventory.limits.ramp_s if inventory.limits else 0.0
        self._measured: tuple[float, Floats] = (-math.inf, np.zeros(len(self.row)))
        self.change(inventory)

    def change(self, inventory: Inventory) -> None:
        """Take the same machines in other states."""
        self.inventory = inventory
        self.in_service: Flags = np.array([one.state is MachineState.IN_SERVICE for one in inventory.machines])
        self.most_builds: Floats = np.array([one.builds or math.inf for one in inventory.machines])

    def add(self, job: Job, machines: Machines) -> int:
        """Count an environment; how many machines it overbooked, or found out of service."""
        self.placed[job.id] = machines
        self._count(job, machines, 1)
        loads = [(row, role.demand[0]) for role, row in self.nodes_of(job)]
        self._unshown[job.id] = (math.inf, loads)
        rows = sorted({row for row, _ in loads})
        for row, _ in loads:
            self.building[row] += 1
        over = (self.used[rows] > self._most[rows]).any(axis=1)
        return int((over | ~self.in_service[rows]).sum())

    def remove(self, job: Job, *, building: bool) -> Machines:
        """Forget an environment; where it stood."""
        if building:
            self._end_builds(job)
        machines = self.placed.pop(job.id)
        self._unshown.pop(job.id, None)
        self._count(job, machines, -1)
        return machines

    def nodes_of(self, job: Job) -> Iterator[tuple[RoleRequest, int]]:
        """The role and the row of each node of an environment."""
        machines = self.placed[job.id]
        return ((role, self.row[name]) for role in job.shape.roles for name in machines[role.role])

    def _count(self, job: Job, machines: Machines, sign: int) -> None:
        for role in job.shape.roles:
            demand = sign * np.asarray(role.demand)
            for name in machines[role.role]:
                row = self.row[name]
                self.used[row] += demand
                self.nodes[row] += sign
                self.services[row][job.shape.request.service] += sign
                for service in role.rules.apart_from:
                    self.shunned[row][service] += sign
                self.uplink[self.zone[row]] += demand[NETWORK]
                if role.qos_class in self.inventory.spare_zones:
                    self.kept[self.zone[row]] += demand[SPARE]

    def _end_builds(self, job: Job) -> None:
        for _, row in self.nodes_of(job):
            self.building[row] -= 1

    def built(self, job: Job, now: float) -> None:
        """It bears its load from now on; measurements show it a little later."""
        self._unshown[job.id] = (now, self._unshown[job.id][1])
        self._end_builds(job)
        self.bear(job, 1)

    def bear(self, job: Job, sign: int) -> None:
        """Begin, or end, to use what an environment uses."""
        for role, row in self.nodes_of(job):
            self.load[row] += sign * role.demand[0] * job.shape.busy

    def measure(self, now: float) -> dict[str, Load]:
        """The loads of this moment; machines that bear the same have one measurement together."""
        shares = np.maximum(0.0, (self.load / self.vcpu).round(9)).tolist()
        made = {share: Load(now, {"vcpu": share}) for share in set(shares)}
        return {name: made[share] for name, share in zip(self.row, shares, strict=True)}

    def know(self, loads: Mapping[str, Load]) -> None:
        """Take the measurement that everybody knows now."""
        at = next(iter(loads.values())).at
        known = np.array([loads[name].used["vcpu"] for name in self.row]) * self.vcpu
        self._measured = (at, known)
        self._unshown = {id: one for id, one in self._unshown.items() if one[0] + self._ramp_s >= at}

    def hot(self) -> Flags:
        """The machines that really bear more than the inventory's limit."""
        limits = self.inventory.limits
        full = limits.full.get("vcpu", math.inf) if limits else math.inf
        return np.asarray(self.load > self.vcpu * full * (1 + _SLACK))

    def room(self, without: Collection[str] = ()) -> Floats:
        """What each machine may still bear by its measured load, in vcpu, once some environments are gone."""
        limits = self.inventory.limits
        if limits is None:
            return np.full(len(self.row), np.inf)
        known = self._measured[1].copy()
        for id, (_, loads) in self._unshown.items():
            for row, vcpu in () if id in without else loads:
                known[row] += vcpu
        return np.asarray(self.vcpu * limits.full.get("vcpu", math.inf) - known)
