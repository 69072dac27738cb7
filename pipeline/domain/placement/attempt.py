"""One try to place a whole environment: what it has put where so far, and which zones may take more."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from operator import mul

import numpy as np

from pipeline.domain.placement.fleet import NETWORK, SPARE_DIMS, Fleet, Floats
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.shapes import NEVER, NOTHING_TAKEN, Taken
from pipeline.domain.placement.valuation import Valuation

#: Nodes of a role that are looked ahead on a machine.
MOST_AHEAD = 8


@dataclass
class Attempt:
    """`zones` are those it is kept within; None is everywhere. Nothing of it reaches the fleet."""

    fleet: Fleet
    request: Request
    zones: frozenset[int] | None = None
    chosen: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    taken: dict[int, Floats] = field(default_factory=dict)
    nodes: Counter[int] = field(default_factory=Counter)
    stuck: RoleRequest | None = None
    valuations: dict[str, Valuation] = field(default_factory=dict)

    def valuation(self, role: RoleRequest) -> Valuation:
        if role.role not in self.valuations:
            self.valuations[role.role] = Valuation(self.fleet, self.request, role)
        return self.valuations[role.role]

    def place(self, role: RoleRequest) -> bool:
        """Place all nodes of a role that have no place yet; False, and `stuck`, when one finds no machine."""
        values, ahead = self.values(role), Ahead(self, role)
        for left in reversed(range(role.count - len(self.chosen[role.role]))):
            row = int(values.argmax()) if len(values) else -1
            if row < 0 or values[row] == NEVER:
                self.stuck = role
                return False
            self.take(role, row)
            if left:
                self._after(role, row, left, values, ahead)
        return True

    def values(self, role: RoleRequest) -> Floats:
        """The value of every machine for the next node of a role, after what this attempt took."""
        values = self._within(self.valuation(role).values(self._taken()), role)
        self._close_zones(self.full_zones(role) | self._short_zones(role), values)
        for row in self._full_machines(role):
            values[row] = NEVER
        return values

    def _within(self, current: Floats, role: RoleRequest) -> Floats:
        zones = self.allowed_zones(role)
        if zones is None:
            return current
        values = np.full_like(current, NEVER)
        for zone in zones:
            values[self.fleet.slices[zone]] = current[self.fleet.slices[zone]]
        return values

    def allowed_zones(self, role: RoleRequest) -> frozenset[int] | None:
        """Those of the attempt, and of the role and the service that this one wants to be near."""
        zones = self.zones
        if role.rules.near is not None and self.chosen[role.rules.near]:
            zones = frozenset(self.fleet.zone_at[row] for row in self.chosen[role.rules.near])
        if role.rules.near_service is None:
            return zones
        beside = self.fleet.zones_with(self.request.project, role.rules.near_service)
        return beside if zones is None else zones & beside

    def _taken(self) -> Taken:
        if not self.taken:
            return NOTHING_TAKEN
        rows = np.array(list(self.taken), dtype=np.intp)
        nodes = np.array([self.nodes[row] for row in self.taken], dtype=np.intp)
        return Taken(rows, np.array(list(self.taken.values())), nodes)

    def take(self, role: RoleRequest, row: int) -> None:
        """Put one node of a role on a machine."""
        demand = self.valuation(role).demand
        self.chosen[role.role].append(row)
        self.taken[row] = self.taken[row] + demand if row in self.taken else demand
        self.nodes[row] += 1

    def give_back(self, role: RoleRequest) -> None:
        """Take the last node of a role off its machine again."""
        row = self.chosen[role.role].pop()
        self.nodes[row] -= 1
        if self.nodes[row]:
            self.taken[row] = self.taken[row] - self.valuation(role).demand
        else:
            del self.taken[row], self.nodes[row]

    def _after(self, role: RoleRequest, row: int, left: int, values: Floats, ahead: Ahead) -> None:
        """Bring the values up to date after one node went to a row, for the first of those that are left."""
        valuation, zone = self.valuation(role), self.fleet.zone_at[row]
        closed = set() if self.spare_suffices else self.unspared(role)
        if self._is_full(zone, role):
            closed.add(zone)
        self._close_zones(closed, values)
        if zone in closed:
            return
        if valuation.per_machine is not None and self.chosen[role.role].count(row) >= valuation.per_machine:
            values[row] = NEVER
        else:
            values[row] = ahead.value(row, left)

    def _close_zones(self, zones: set[int], values: Floats) -> None:
        for zone in zones:
            values[self.fleet.slices[zone]] = NEVER

    def _is_full(self, zone: int, role: RoleRequest) -> bool:
        most = self.valuation(role).per_zone
        if most is not None and [self.fleet.zone_at[row] for row in self.chosen[role.role]].count(zone) >= most:
            return True
        return not self.uplinks_suffice and self._uplink_is_out(zone, role)

    def full_zones(self, role: RoleRequest) -> set[int]:
        """Zones with as many nodes of the role as may stand in one."""
        most = self.valuation(role).per_zone
        if most is None:
            return set()
        counts = Counter(self.fleet.zone_at[row] for row in self.chosen[role.role])
        return {zone for zone, count in counts.items() if count >= most}

    def _full_machines(self, role: RoleRequest) -> list[int]:
        most = self.valuation(role).per_machine
        return [] if most is None else [row for row, count in Counter(self.chosen[role.role]).items() if count >= most]

    def _short_zones(self, role: RoleRequest) -> set[int]:
        """Zones whose uplink, or the spare room that is kept for them, allows no more."""
        out = set() if self.uplinks_suffice else self.uplinked_out(role)
        return out if self.spare_suffices else out | self.unspared(role)

    @cached_property
    def _wanted(self) -> Floats:
        """What the whole request takes."""
        counts = [role.count for role in self.request.roles]
        columns = zip(*(role.demand for role in self.request.roles), strict=True)
        return np.array([sum(map(mul, counts, column)) for column in columns], dtype=float)

    @cached_property
    def uplinks_suffice(self) -> bool:
        """Whether no uplink can run out, wherever the whole request goes."""
        wanted = self._wanted[NETWORK, None]
        return not wanted.any() or bool((self.fleet.uplink_free >= wanted).all())

    @cached_property
    def spare_suffices(self) -> bool:
        """Whether no zone's spare room can run out, wherever the whole request goes."""
        if not self.fleet.inventory.spare_zones:
            return True
        elsewhere = self.fleet.zone_free.sum(axis=1, keepdims=True) - self.fleet.zone_free
        return bool((self.fleet.kept + 2 * self._wanted[:SPARE_DIMS, None] <= elsewhere).all())

    def uplinked_out(self, role: RoleRequest) -> set[int]:
        """Zones whose uplink cannot carry one more."""
        need = np.asarray(role.demand[NETWORK])
        if not need.any():
            return set()
        before = np.flatnonzero((self.fleet.uplink_free < need[:, None]).any(axis=0)).tolist()
        used = {self.fleet.zone_at[row] for row in self.taken}
        return {*before, *(zone for zone in used if self._uplink_is_out(zone, role))}

    def _uplink_is_out(self, zone: int, role: RoleRequest) -> bool:
        need = np.asarray(role.demand[NETWORK])
        return bool(need.any() and (self.fleet.uplink_free[:, zone] - self.uplink_taken(zone) < need).any())

    def uplink_taken(self, zone: int) -> Floats:
        """What this attempt takes of a zone's uplink, in and out."""
        here = [taken[NETWORK] for row, taken in self.taken.items() if self.fleet.zone_at[row] == zone]
        return np.sum(here, axis=0) if here else np.zeros(2)

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


@dataclass
class Ahead:
    """The values of machines for the next nodes of a role: several nodes ahead cost no more than one."""

    attempt: Attempt
    role: RoleRequest
    found: dict[int, list[float]] = field(default_factory=dict)

    def value(self, row: int, left: int) -> float:
        """The value of a row for one more node, after what the attempt took; `left` nodes have no place yet."""
        if not self.found.get(row):
            self.found[row] = self._values(row, min(left, MOST_AHEAD))
        return self.found[row].pop()

    def _values(self, row: int, count: int) -> list[float]:
        """For the nodes after this one too, as if all went to this row; the first stands last."""
        valuation, amounts = self.attempt.valuation(self.role), [self.attempt.taken[row]]
        while len(amounts) < count:
            amounts.append(amounts[-1] + valuation.demand)  # as `take` adds them, so that roundings are the same
        nodes = self.attempt.nodes[row] + np.arange(count, dtype=np.intp)
        values = valuation.value(Taken(np.full(count, row, dtype=np.intp), np.array(amounts), nodes))
        return list(values[::-1].tolist())
