"""What a machine would have to be granted so that it takes one more node of a role, and how dear that is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.changes import (
    Clear,
    FinishBuilds,
    Free,
    FreeUplink,
    Measure,
    MoveServices,
    ReturnToService,
    Unload,
    WorldChange,
)
from pipeline.domain.placement.filters import FILTERS, STATE, Need, Question, strangers
from pipeline.domain.placement.fleet import NETWORK, Flags, Floats
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.placement.shapes import machine_share
from pipeline.domain.placement.units import at_least_of
from pipeline.domain.placement.whatif import apply
from pipeline.domain.resources import NOTHING, Vector

#: Rules that a grant can silence; what any other refuses stays refused.
GRANTED = frozenset({STATE, "whole", "apart", "capacity", "builds", "load"})
#: What leaves a machine first, then what is still short on it.
ROUNDS = 2
APART = next(one for one in FILTERS if one.name == "apart")


@dataclass(frozen=True)
class Costs:
    """How dear a grant is beside room, of which as much as a whole node takes costs 1 a dimension."""

    builds: float = 0.1
    measure: float = 0.2
    uplink: float = 1.0
    service: float = 4.0
    move: float = 2.0
    clear: float = 3.0


def cheapest(attempt: Attempt, role: RoleRequest, costs: Costs) -> tuple[int, float] | None:
    """The machine that lacks least for the next node of a role, after what the attempt took, and how dear that is;
    None: no grant helps.
    """
    dear = _Lack(attempt, role).cost(costs)
    row = int(dear.argmin()) if len(dear) else -1
    return (row, float(dear[row])) if row >= 0 and np.isfinite(dear[row]) else None


def grant(attempt: Attempt, role: RoleRequest, row: int) -> list[WorldChange]:
    """Change the attempt's fleet, which is a copy, so that a machine takes the next node, and put it there."""
    steps: list[WorldChange] = []
    for _ in range(ROUNDS):
        more = list(_Lack(attempt, role).steps(row))
        for step in more:
            apply(attempt.fleet, step)
        steps += more
    if any(isinstance(step, ReturnToService) for step in steps):
        attempt.valuations.clear()
    attempt.take(role, row)
    return steps


class _Lack:
    """What each machine lacks, as arrays over all rows."""

    def __init__(self, attempt: Attempt, role: RoleRequest) -> None:
        fleet = attempt.fleet
        self.attempt, self.fleet, self.role = attempt, fleet, role
        self.need = Need(role)
        self.taken: Floats = np.zeros_like(fleet.free)
        self.nodes = np.zeros(len(fleet.machines), dtype=np.intp)
        for row, amount in attempt.taken.items():
            self.taken[:, row], self.nodes[row] = amount, attempt.nodes[row]
        self.rows = np.arange(len(fleet.machines))
        self.whole = fleet.whole & (fleet.nodes > 0)
        self.room = self._short(np.where(self.whole, fleet.usable, fleet.free))
        self.load = self._short(fleet.headroom) if fleet.inventory.limits is not None else np.zeros_like(self.room)
        self.beside = ~APART.allows(self._question())
        self.uplinks = attempt.uplinked_out(role)

    def _question(self) -> Question:
        service = self.attempt.request.service
        return Question(self.fleet, self.role, service, self.need, self.rows, self.taken, self.nodes)

    def _short(self, free: Floats) -> Floats:
        """By how much one more node is too much, where it takes anything."""
        lack = self.need.column - (free - self.taken)
        short: Floats = np.where((self.need.column > 0) & (free - self.taken < self.need.least), lack, 0.0)
        return short

    def cost(self, costs: Costs) -> Floats:
        """Infinite where no grant helps."""
        fleet = self.fleet
        share = np.maximum(self.need.column, 1e-9)
        cost: Floats = (self.room / share).sum(axis=0) + (self.load / share).sum(axis=0)
        cost = cost + np.where(fleet.in_service, 0.0, costs.service) + np.where(self.whole, costs.clear, 0.0)
        cost = cost + np.where(self.beside, costs.move, 0.0)
        cost = cost + np.where(fleet.building + self.nodes < fleet.max_builds, 0.0, costs.builds)
        if fleet.inventory.limits is not None:
            cost = cost + np.where(fleet.stale, costs.measure, 0.0)
        for zone in self.uplinks:
            cost[fleet.slices[zone]] += costs.uplink
        cost[self._never()] = np.inf
        return cost

    def _never(self) -> Flags:
        """Machines that could not take it even if they were empty, and those that other rules refuse."""
        fleet, attempt, role = self.fleet, self.attempt, self.role
        never = (fleet.usable - self.taken < self.need.least).any(axis=0)
        never |= fleet.max_builds <= self.nodes
        never |= fleet.whole & (self.nodes > 0)
        for one in FILTERS:
            if one.name not in GRANTED and one.applies(fleet, role):
                never |= ~one.allows(self._question())
        allowed, closed = attempt.allowed_zones(role), self._closed()
        for zone, rows in enumerate(fleet.slices):
            if (allowed is not None and zone not in allowed) or zone in closed:
                never[rows] = True
        most = machine_share(attempt.valuation(role).shape, role)
        if most is not None:
            chosen = attempt.chosen[role.role]
            never[[row for row in set(chosen) if chosen.count(row) >= most]] = True
        return never

    def _closed(self) -> set[int]:
        """Zones that no grant on one machine opens."""
        narrow = {zone for zone in self.uplinks if (self._of_uplink(zone) > self._uplink(zone)).any()}
        return self.attempt.full_zones(self.role) | self.attempt.unspared(self.role) | narrow

    def _uplink(self, zone: int) -> Floats:
        one = self.fleet.zones[zone]
        return np.array([np.inf if most is None else most for most in (one.uplink_in, one.uplink_out)])

    def _of_uplink(self, zone: int) -> Floats:
        """What one more node makes of an uplink, with all that the attempt took of it."""
        mine: Floats = np.asarray(self.role.demand[NETWORK]) + self.attempt.uplink_taken(zone)
        return mine

    def steps(self, row: int) -> Iterator[WorldChange]:
        """What would have to change on one machine; where something leaves it, that first."""
        fleet, name = self.fleet, self.fleet.machines[row].name
        if not fleet.in_service[row]:
            yield ReturnToService(name)
        if self.whole[row]:
            yield Clear(name)
            return
        if self.beside[row]:
            yield MoveServices(name, strangers(fleet, self.attempt.request.service, self.role, name))
            return
        builds = fleet.building[row] + self.nodes[row] + 1 - fleet.max_builds[row]
        if builds > 0:
            yield FinishBuilds(name, int(builds))
        if self.room[:, row].any():
            yield Free(name, _vector(self.room[:, row]))
        yield from self._of_load(row, name)
        if int(fleet.zone[row]) in self.uplinks:
            yield self._freed(int(fleet.zone[row]))

    def _of_load(self, row: int, name: str) -> Iterator[WorldChange]:
        if self.fleet.inventory.limits is None:
            return
        if self.fleet.stale[row]:
            yield Measure(name)
        if self.load[:, row].any():
            yield Unload(name, _vector(self.load[:, row]))

    def _freed(self, zone: int) -> FreeUplink:
        lack = (self._of_uplink(zone) - self.fleet.uplink_free[:, zone]).clip(0.0)
        rates = at_least_of((*NOTHING[: NETWORK.start], *lack.tolist(), *NOTHING[NETWORK.stop :]))
        return FreeUplink(self.fleet.zones[zone].name, *rates[NETWORK])


def _vector(amounts: Floats) -> Vector:
    return tuple(float(amount) for amount in amounts)
