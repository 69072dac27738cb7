"""One try to place a whole environment: what it has put where so far, and which zones may take more."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

import numpy as np

from pipeline.domain.placement.fleet import NETWORK, SPARE_DIMS, Fleet, Floats, Rows
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.shapes import NEVER, Shape, shape_of
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import Spread


@dataclass
class Attempt:
    """`zones` are those it is kept within; None is everywhere. Nothing of it reaches the fleet."""

    fleet: Fleet
    request: Request
    zones: frozenset[int] | None = None
    chosen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    taken: dict[int, Floats] = field(default_factory=dict)
    nodes: Counter[int] = field(default_factory=Counter)
    network: dict[int, Floats] = field(default_factory=dict)
    stuck: RoleRequest | None = None
    shapes: dict[str, Shape] = field(default_factory=dict)

    def shape(self, role: RoleRequest) -> Shape:
        if role.role not in self.shapes:
            self.shapes[role.role] = shape_of(self.fleet, self.request, role)
        return self.shapes[role.role]

    def place(self, role: RoleRequest) -> bool:
        """Place all nodes of a role; False, and `stuck`, when one finds no machine."""
        shape = self.shape(role)
        values, narrow = self.values(shape, role), self._narrow(role)
        while len(self.chosen[role.role]) < role.count:
            row = int(values.argmax()) if len(values) else -1
            if row < 0 or values[row] == NEVER:
                self.stuck = role
                return False
            self.take(role, row)
            self._after(shape, role, row, values, narrow)
        return True

    def values(self, shape: Shape, role: RoleRequest) -> Floats:
        """The value of every machine for the next node of a role, after what this attempt took."""
        values = self._within(shape.current(), role)
        if self.taken:
            rows = np.fromiter(self.taken, dtype=np.intp)
            rows = rows[values[rows] != NEVER]
            values[rows] = self._value(shape, rows)
        for zone in self._closed_zones(role):
            values[self.fleet.slices[zone]] = NEVER
        self._close_machines(role, values)
        return values

    def _within(self, current: Floats, role: RoleRequest) -> Floats:
        zones = self.allowed_zones(role)
        if zones is None:
            return current.copy()
        values = np.full_like(current, NEVER)
        for zone in zones:
            values[self.fleet.slices[zone]] = current[self.fleet.slices[zone]]
        return values

    def allowed_zones(self, role: RoleRequest) -> frozenset[int] | None:
        """Those of the attempt, and of the role and the service that this one wants to be near."""
        zones = self.zones
        if role.rules.near is not None and self.chosen[role.rules.near]:
            zones = frozenset(int(self.fleet.zone[row]) for row in self.chosen[role.rules.near])
        if role.rules.near_service is None:
            return zones
        beside = self.fleet.zones_with(self.request.project, role.rules.near_service)
        return beside if zones is None else zones & beside

    def _value(self, shape: Shape, rows: Rows) -> Floats:
        taken = np.array([self.taken[int(row)] for row in rows]).reshape(len(rows), len(DIMENSIONS)).T
        nodes = np.array([self.nodes[int(row)] for row in rows], dtype=np.intp)
        return shape.value(rows, taken, nodes)

    def take(self, role: RoleRequest, row: int) -> None:
        """Put one node of a role on a machine."""
        demand = np.asarray(role.demand)
        self.chosen[role.role].append(row)
        self.taken[row] = self.taken[row] + demand if row in self.taken else demand
        self.nodes[row] += 1
        zone = int(self.fleet.zone[row])
        self.network[zone] = self.network.get(zone, 0.0) + demand[NETWORK]

    def give_back(self, role: RoleRequest) -> None:
        """Take the last node of a role off its machine again."""
        row, demand = self.chosen[role.role].pop(), np.asarray(role.demand)
        self.nodes[row] -= 1
        zone = int(self.fleet.zone[row])
        self.network[zone] = self.network[zone] - demand[NETWORK]
        if self.nodes[row]:
            self.taken[row] = self.taken[row] - demand
        else:
            del self.taken[row], self.nodes[row]

    def _after(self, shape: Shape, role: RoleRequest, row: int, values: Floats, narrow: bool) -> None:
        """Bring the values up to date after one node went to a row; `narrow`: uplinks or spare room may run out."""
        zone = int(self.fleet.zone[row])
        closed = self.full_zones(role) | (self.uplinked_out(role) | self.unspared(role) if narrow else set())
        for one in closed:
            values[self.fleet.slices[one]] = NEVER
        if zone in closed:
            return
        most = machine_share(shape, role)
        if most is not None and self.chosen[role.role].count(row) >= most:
            values[row] = NEVER
        else:
            values[row] = self._value(shape, np.array([row], dtype=np.intp))[0]

    def _narrow(self, role: RoleRequest) -> bool:
        """Whether uplinks or spare room may run out before all nodes of a role are placed."""
        need = role.count * np.asarray(role.demand)
        uplinks, spare = False, False
        if need[NETWORK].any():
            uplinks = bool((self.fleet.uplink_free - self._most_network() < need[NETWORK, None]).any())
        if self.fleet.inventory.spare_zones:
            kept, free = self._spare()
            elsewhere = free.sum(axis=1, keepdims=True) - free
            spare = bool((kept + 2 * need[:SPARE_DIMS, None] > elsewhere).any())
        return uplinks or spare

    def _most_network(self) -> float:
        """More than this attempt takes of any uplink."""
        return float(max((used.max() for used in self.network.values()), default=0.0))

    def _close_machines(self, role: RoleRequest, values: Floats) -> None:
        most = machine_share(self.shape(role), role)
        if most is not None:
            for row, count in Counter(self.chosen[role.role]).items():
                if count >= most:
                    values[row] = NEVER

    def _closed_zones(self, role: RoleRequest) -> set[int]:
        return self.full_zones(role) | self.uplinked_out(role) | self.unspared(role)

    def full_zones(self, role: RoleRequest) -> set[int]:
        """Zones with as many nodes of the role as may stand in one."""
        most = zone_share(self.shape(role), role)
        if most is None:
            return set()
        counts = Counter(int(self.fleet.zone[row]) for row in self.chosen[role.role])
        return {zone for zone, count in counts.items() if count >= most}

    def uplinked_out(self, role: RoleRequest) -> set[int]:
        """Zones whose uplink cannot carry one more."""
        need = np.asarray(role.demand[NETWORK])
        if not need.any() or not np.isfinite(self.fleet.uplink_free).any():
            return set()
        free = self.fleet.uplink_free.copy()
        for zone, used in self.network.items():
            free[:, zone] -= used
        return set(map(int, np.flatnonzero(np.any(free < need[:, None], axis=0))))

    def unspared(self, role: RoleRequest) -> set[int]:
        """Zones that may take no more, so that what must be kept of any one zone still fits into the others."""
        if not self.fleet.inventory.spare_zones:
            return set()
        kept, free = self._spare()
        demand = np.asarray(role.demand[:SPARE_DIMS])[:, None]
        elsewhere = free.sum(axis=1, keepdims=True) - free
        own = demand if role.qos_class in self.fleet.inventory.spare_zones else 0.0 * demand
        itself_fits = np.all(kept + own <= elsewhere, axis=0)
        others_fit = np.all(kept <= elsewhere - demand, axis=0)
        broken = np.flatnonzero(~others_fit)
        if len(broken) > 1:
            return set(range(len(self.fleet.zones)))
        closed = ~itself_fits
        if len(broken) == 1:
            closed[np.arange(len(closed)) != broken[0]] = True
        return set(map(int, np.flatnonzero(closed)))

    def _spare(self) -> tuple[Floats, Floats]:
        """What must be kept of each zone, and what is free in it on machines in service."""
        kept, free = self.fleet.kept.copy(), self.fleet.zone_free.copy()
        for row, demand in self.taken.items():
            free[:, self.fleet.zone[row]] -= demand[:SPARE_DIMS]
        for role in self.request.roles:
            if role.qos_class in self.fleet.inventory.spare_zones:
                for row in self.chosen[role.role]:
                    kept[:, self.fleet.zone[row]] += np.asarray(role.demand[:SPARE_DIMS])
        return kept, free


def zone_share(shape: Shape, role: RoleRequest) -> int | None:
    """How many nodes of a role one zone may take; None: any number."""
    bounds = [role.rules.max_per_zone] if role.rules.max_per_zone is not None else []
    if role.rules.spread is Spread.ZONE:
        bounds.append(-(-role.count // max(1, shape.permitted_zones)))
    return min(bounds, default=None)


def machine_share(shape: Shape, role: RoleRequest) -> int | None:
    """How many nodes of a role one machine may take; None: any number."""
    if role.rules.spread is not Spread.MACHINE:
        return None
    return -(-role.count // max(1, shape.permitted_machines))
