"""Whether a placement keeps every rule, and whether a refusal was right: by a first fit over the second account."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from pipeline.domain.inventory import Machine, MachineKind
from pipeline.domain.placement.model import RoleRequest
from pipeline.domain.rules import Attribute, BareMetal, Spread, Stance, Within
from pipeline.simulation.ledger import NETWORK, SPARE, Flags, Floats, Ledger
from pipeline.simulation.scenario import Job, Shape

_SLACK = 1e-6


@dataclass(frozen=True)
class Terms:
    """What the rules of one role come to: where it may stand at all, and how many of it in one zone, on one machine."""

    permitted: Flags
    most_zone: float
    most_machine: float


class Judge:
    """Knows what is fixed about the machines of a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        machines, zones = ledger.inventory.machines, ledger.inventory.zones
        self.zone_of: list[int] = ledger.zone.tolist()
        self.bare: Flags = np.array([one.kind is MachineKind.BARE_METAL for one in machines])
        self.uplinks = np.array([[one.uplink_in or math.inf, one.uplink_out or math.inf] for one in zones])
        self.region = [one.region for one in zones]
        self._traits = [self._traits_of(one) for one in machines]
        self._terms: dict[int, tuple[RoleRequest, Terms]] = {}

    def _traits_of(self, machine: Machine) -> frozenset[tuple[Attribute, str]]:
        inventory = self.ledger.inventory
        region = next(zone.region for zone in inventory.zones if zone.name == machine.zone)
        common = [feature for one in inventory.aggregates if one.name in machine.aggregates for feature in one.features]
        return frozenset(
            [
                (Attribute.MACHINE, machine.name),
                (Attribute.ZONE, machine.zone),
                (Attribute.REGION, region),
                (Attribute.KIND, machine.kind.value),
                *((Attribute.AGGREGATE, name) for name in machine.aggregates),
                *((Attribute.FEATURE, name) for name in (*machine.features, *common)),
            ]
        )

    def terms(self, role: RoleRequest) -> Terms:
        """Kept by role, which is kept, too, so that no other one is taken for it."""
        if id(role) not in self._terms:
            self._terms[id(role)] = (role, self._terms_of(role))
        return self._terms[id(role)][1]

    def _terms_of(self, role: RoleRequest) -> Terms:
        permitted = np.array([_permits(role, traits) for traits in self._traits])
        if role.rules.bare_metal is BareMetal.REQUIRED:
            permitted &= self.bare
        most_zone: float = role.rules.max_per_zone or math.inf
        if role.rules.spread is Spread.ZONE:
            zones = len(set(self.ledger.zone[permitted].tolist()))
            most_zone = min(most_zone, math.ceil(role.count / max(1, zones)))
        by_machine = role.rules.spread is Spread.MACHINE
        return Terms(
            permitted, most_zone, math.ceil(role.count / max(1, int(permitted.sum()))) if by_machine else math.inf
        )

    # -- a placement

    def broken(self, job: Job) -> list[str]:
        """The rules that an environment breaks where it was placed."""
        rows: dict[str, list[int]] = defaultdict(list)
        for role, row in self.ledger.nodes_of(job):
            rows[role.role].append(row)
        found = [rule for role in job.shape.roles for rule in self._broken(role, job.shape, rows)]
        every = [row for own in rows.values() for row in own]
        if job.shape.request.within is not Within.ANYWHERE and not any(
            area[every].all() for area in self.areas(job.shape)
        ):
            found.append("within")
        return found if self._spared() else [*found, "spare zones"]

    def _broken(self, role: RoleRequest, shape: Shape, rows: Mapping[str, list[int]]) -> Iterator[str]:
        ledger, own, terms = self.ledger, rows[role.role], self.terms(role)
        zones = Counter(self.zone_of[row] for row in own)
        if not all(terms.permitted[row] for row in own):
            yield "rules"
        if max(zones.values()) > terms.most_zone or max(Counter(own).values()) > terms.most_machine:
            yield "spread"
        if any(self.bare[row] and ledger.nodes[row] > 1 for row in own):
            yield "whole"
        if any(ledger.building[row] > ledger.most_builds[row] for row in own):
            yield "builds"
        if role.rules.near is not None and not set(zones) <= {self.zone_of[row] for row in rows[role.rules.near]}:
            yield "near"
        if any(self.shuns(role, shape, row) for row in own):
            yield "apart"
        if any(role.demand[NETWORK]) and (ledger.uplink > self.uplinks * (1 + _SLACK)).any():
            yield "uplink"

    def shuns(self, role: RoleRequest, shape: Shape, row: int) -> bool:
        """Whether a neighbour on a machine shuns a role, or is shunned by it."""
        if role.rules.apart_from and any(self.ledger.services[row][other] > 0 for other in role.rules.apart_from):
            return True
        return row in self.ledger.shunned and self.ledger.shunned[row][shape.request.service] > 0

    def _spared(self) -> bool:
        """Whether what must be kept of any one zone has room in the others."""
        if not self.ledger.inventory.spare_zones:
            return True
        return self.has_spare(self.ledger.usable - self.ledger.used, self.ledger.kept)

    def has_spare(self, free: Floats, kept: Floats) -> bool:
        """Whether what must be kept of each zone (zones x dimensions) fits into what is free in the others."""
        spare = np.where(np.isfinite(free[:, SPARE]) & self.ledger.in_service[:, None], free[:, SPARE], 0.0)
        zones = np.array([spare[self.ledger.zone == zone].sum(axis=0) for zone in range(len(kept))])
        return bool((kept <= (zones.sum(axis=0) - zones) * (1 + _SLACK) + _SLACK).all())

    def areas(self, shape: Shape) -> Iterator[Flags]:
        """The sets of machines that an environment may stay within."""
        zone = self.ledger.zone
        if shape.request.within is Within.ANYWHERE:
            yield np.ones(len(zone), dtype=bool)
        elif shape.request.within is Within.ZONE:
            yield from (zone == one for one in range(len(self.region)))
        else:
            regions = np.array([self.region[one] for one in zone])
            yield from (regions == one for one in dict.fromkeys(self.region))

    # -- a refusal

    def could_keep(self, shape: Shape, without: Collection[Job] = (), avoid: Collection[str] = ()) -> bool:
        """Whether a first fit finds a place for all of it away from some machines, once some environments are gone."""
        allowed = np.ones(len(self.zone_of), dtype=bool)
        allowed[[self.ledger.row[name] for name in avoid]] = False
        return any(_FirstFit(self, shape, area & allowed, without).found() for area in self.areas(shape))


class _FirstFit:
    """One try within one area; `free` and the like lose what it takes."""

    def __init__(self, judge: Judge, shape: Shape, area: Flags, without: Collection[Job]) -> None:
        ledger = judge.ledger
        self.judge, self.shape = judge, shape
        self.area = area & ledger.in_service
        self.free, self.nodes = ledger.usable - ledger.used, ledger.nodes.copy()
        self.room = ledger.room({job.id for job in without})
        self.builds = ledger.most_builds - ledger.building
        self.uplink, self.kept = judge.uplinks - ledger.uplink, ledger.kept.copy()
        self.zones: dict[str, Counter[int]] = defaultdict(Counter)
        for job in without:
            for role, row in ledger.nodes_of(job):
                self.free[row] += np.asarray(role.demand)
                self.nodes[row] -= 1

    def found(self) -> bool:
        targets = {role.rules.near for role in self.shape.roles}
        roles = sorted(self.shape.roles, key=lambda role: (role.role not in targets, role.rules.near is not None))
        if not all(self._fits(role) for role in roles):
            return False
        return not self.judge.ledger.inventory.spare_zones or self.judge.has_spare(self.free, self.kept)

    def _fits(self, role: RoleRequest) -> bool:
        ledger, demand = self.judge.ledger, np.asarray(role.demand)
        terms = self.judge.terms(role)
        machines: Counter[int] = Counter()
        for _ in range(role.count):
            fit = self._open(role, demand)
            full = [zone for zone, n in self.zones[role.role].items() if n >= terms.most_zone]
            fit &= ~np.isin(ledger.zone, full)
            fit[[row for row, n in machines.items() if n >= terms.most_machine]] = False
            if not fit.any():
                return False
            row = int(fit.argmax())
            machines[row] += 1
            self._take(role, row, demand)
        return True

    def _open(self, role: RoleRequest, demand: Floats) -> Flags:
        """The machines that may take one more node of the role, but for its spread."""
        judge, zone = self.judge, self.judge.ledger.zone
        fits = (self.free >= demand).all(axis=1) & (self.room >= demand[0])
        fit: Flags = np.asarray(self.area & judge.terms(role).permitted & fits)
        fit &= (~judge.bare | (self.nodes == 0)) & (self.builds > 0)
        fit &= np.asarray((self.uplink >= demand[NETWORK]).all(axis=1))[zone]
        if role.rules.near is not None:
            fit &= np.isin(zone, list(self.zones[role.rules.near]))
        if role.rules.apart_from or judge.ledger.shunned:
            fit[[row for row in np.flatnonzero(fit).tolist() if judge.shuns(role, self.shape, row)]] = False
        return fit

    def _take(self, role: RoleRequest, row: int, demand: Floats) -> None:
        zone = int(self.judge.ledger.zone[row])
        self.free[row] -= demand
        self.room[row] -= demand[0]
        self.nodes[row] += 1
        self.builds[row] -= 1
        self.uplink[zone] -= demand[NETWORK]
        self.zones[role.role][zone] += 1
        if role.qos_class in self.judge.ledger.inventory.spare_zones:
            self.kept[zone] += demand[SPARE]


def _permits(role: RoleRequest, traits: frozenset[tuple[Attribute, str]]) -> bool:
    for rule in role.rules.affinities:
        has = any((rule.attribute, value) in traits for value in rule.values)
        if (rule.stance is Stance.REQUIRE and not has) or (rule.stance is Stance.FORBID and has):
            return False
    return True
