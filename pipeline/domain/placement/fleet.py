"""The picture of one provider that placement works on: numpy arrays that are kept and changed, never built anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain.durations import SKEW_S
from pipeline.domain.inventory import (
    WHOLE,
    Inventory,
    Load,
    Machine,
    MachineKind,
    MachineState,
    Zone,
    names_of,
    traits_of,
    usable,
)
from pipeline.domain.placement.model import Placed, Request, Standing
from pipeline.domain.resources import DIMENSIONS, UNNAMED
from pipeline.domain.rules import Attribute

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.intp]
#: The dimensions that a failed zone would need elsewhere: vcpu, memory, disk.
SPARE_DIMS = 3
#: Where network_in and network_out stand in a demand.
NETWORK = slice(7, 9)
#: Changes that the journal remembers at most.
MOST_CHANGES = 50_000
#: So much before a measurement from the future begins to count, in seconds, every look is made anew: rounding.
EARLIER_S = 0.001
#: Shapes of roles whose arrays are kept at a time.
MOST_SHAPES = 64


class Fleet:
    """Machines sorted by zone: `slices[z]` are the rows of zone `z`. Arrays are dimensions x machines; what belongs to
    one machine lies side by side in memory, since decisions look at few machines at a time.

    `free` is what may still be promised, infinite where it is not limited, and `used` what is promised of the first
    `SPARE_DIMS` dimensions, limited or not. `journal` lists the rows that changed, in
    order; whoever keeps something by row reads on from where it stopped. Changed by its methods alone.
    """

    def __init__(
        self, inventory: Inventory, standing: Iterable[Standing] = (), loads: Mapping[str, Load] | None = None
    ) -> None:
        self.standing: dict[str, list[Standing]] = defaultdict(list)
        self.loads: Mapping[str, Load] = dict(loads or {})
        self._unshown: set[str] = set()
        for one in standing:
            self.standing[one.environment].append(one)
        self.replace_inventory(inventory)

    def replace_inventory(self, inventory: Inventory) -> None:
        """Take another inventory; nodes on a machine that is gone are remembered, and count nowhere."""
        order = {zone.name: at for at, zone in enumerate(inventory.zones)}
        self.inventory = inventory
        places = sorted(range(len(inventory.machines)), key=lambda at: order[inventory.machines[at].zone])
        self.machines: tuple[Machine, ...] = tuple(inventory.machines[at] for at in places)
        self.zones: tuple[Zone, ...] = inventory.zones
        self.row: Mapping[str, int] = {machine.name: at for at, machine in enumerate(self.machines)}
        self.zone = np.array([order[machine.zone] for machine in self.machines], dtype=np.intp)
        self.zone_at: Sequence[int] = self.zone.tolist()  # of one row, quicker than an array
        bounds = np.searchsorted(self.zone, np.arange(len(self.zones) + 1))
        self.every: Rows = np.arange(len(self.machines))
        self.slices = tuple(slice(a, b) for a, b in pairwise(bounds.tolist()))
        amounts = usable(inventory)
        shape = (len(self.machines), len(DIMENSIONS))
        self.usable: Floats = np.array([amounts[at] for at in places], dtype=float).reshape(shape).T
        self.real = _capacities(self.machines)
        self._fixed()
        self._count_again()

    def _fixed(self) -> None:
        self.in_service: Flags = np.array([one.state is MachineState.IN_SERVICE for one in self.machines], dtype=bool)
        self.bare: Flags = np.array([one.kind is MachineKind.BARE_METAL for one in self.machines], dtype=bool)
        self.whole: Flags = np.array([one.kind in WHOLE for one in self.machines], dtype=bool)
        self.max_builds: Floats = most_builds(self.machines)
        self._with: dict[tuple[Attribute, str], Flags] = {}
        self._holding: dict[str, Flags] = {}
        self._traits: dict[Attribute, list[frozenset[str]]] = {}
        self.names = names_of(self.inventory)
        finite = np.where(np.isfinite(self.usable), self.usable, 0.0)
        self.inverse: Floats = np.divide(
            1.0, finite[:SPARE_DIMS], out=np.zeros_like(finite[:SPARE_DIMS]), where=finite[:SPARE_DIMS] > 0
        )
        self.largest: tuple[float, ...] = tuple(finite.max(axis=1, initial=0.0).tolist())

    def _count_again(self) -> None:
        n = len(self.machines)
        self.free: Floats = self.usable.copy(order="K")
        self.used: Floats = np.zeros((n, SPARE_DIMS)).T
        self.open: Floats = (np.isfinite(self.usable[:SPARE_DIMS]) & self.in_service).astype(float)
        open_ = np.where(self.open > 0, self.usable[:SPARE_DIMS], 0.0)
        self.zone_free: Floats = np.array([np.bincount(self.zone, row, minlength=len(self.zones)) for row in open_])
        self.nodes = np.zeros(n, dtype=np.intp)
        self.building = np.zeros(n, dtype=np.intp)
        uplinks = [[_amount(zone.uplink_in), _amount(zone.uplink_out)] for zone in self.zones]
        self.uplink_free: Floats = np.array(uplinks, dtype=float).reshape(len(self.zones), 2).T.copy()
        self.kept: Floats = np.zeros((SPARE_DIMS, len(self.zones)))
        self.services: dict[str, Counter[int]] = defaultdict(Counter)
        self.shunned: dict[str, Counter[int]] = defaultdict(Counter)
        self.journal: list[int] = []
        self.forgotten = 0
        self.epoch = 0
        self.shapes: dict[Any, Any] = {}
        self._company_of: tuple[list[int], Any] = [], None
        self._measured_names: list[str] = []
        self._measured_rows: Rows = np.empty(0, dtype=np.intp)
        self._nearby: dict[tuple[str, str], tuple[list[int], int, frozenset[int]]] = {}
        self._take_loads()
        self._unshown = set(self.standing)
        self._count([node for nodes in self.standing.values() for node in nodes], 1)

    # -- what stands

    def add(self, standing: Iterable[Standing]) -> None:
        """Count nodes that were placed."""
        nodes = list(standing)
        for one in nodes:
            self.standing[one.environment].append(one)
            self._unshown.add(one.environment)
        self._count(nodes, 1)

    def remove(self, *environments: str) -> list[Standing]:
        """Forget the nodes of environments; what they were."""
        gone = [node for environment in environments for node in self.standing.pop(environment, [])]
        self._unshown.difference_update(environments)
        self._count(gone, -1)
        return gone

    def built(self, environment: str, now: float) -> None:
        """The builds of an environment are over."""
        nodes = self.standing.get(environment, [])
        if any(node.building for node in nodes):
            self.standing[environment] = [node.built(now) for node in nodes]
            self._settle(nodes, self.standing[environment])
            self._unshown.add(environment)

    def _settle(self, before: Sequence[Standing], after: Sequence[Standing]) -> None:
        """Count builds that are over, and the load that measurements show now or not; all else stays as it is."""
        pairs = [(old, new) for old, new in zip(before, after, strict=True) if old.machine in self.row]
        if not pairs:
            return
        rows = np.array([self.row[old.machine] for old, _ in pairs], dtype=np.intp)
        np.subtract.at(self.building, rows, [int(old.building) for old, _ in pairs])
        was, is_ = (self._shown(nodes, rows).astype(float) for nodes in zip(*pairs, strict=True))
        if (was != is_).any():
            _add(self.headroom, rows, np.array([old.demand for old, _ in pairs]).T * (is_ - was))
        self._note(rows)

    def reserve(self, request: Request, placed: Placed, now: float) -> None:
        """Count what was decided; the same as `add` of its nodes."""
        self.add(
            Standing(
                request.environment,
                request.service,
                role.role,
                machine,
                role.demand,
                role.qos_class,
                now,
                building=True,
                apart_from=role.rules.apart_from,
                project=request.project,
            )
            for role in request.roles
            for machine in placed.machines[role.role]
        )

    def _count(self, nodes: Sequence[Standing], sign: int) -> None:
        known = [node for node in nodes if node.machine in self.row]
        if not known:
            return
        rows = np.array([self.row[node.machine] for node in known], dtype=np.intp)
        zones = self.zone[rows]
        demands = sign * np.array([node.demand for node in known]).T
        _add(self.used, rows, demands[:SPARE_DIMS])
        _add(self.free, rows, -demands)
        _add(self.zone_free, zones, -demands[:SPARE_DIMS] * self.open[:, rows])
        _add(self.uplink_free, zones, -demands[NETWORK])
        _add(self.headroom, rows, -demands * ~self._shown(known, rows))
        if self.inventory.spare_zones:
            _add(self.kept, zones, demands[:SPARE_DIMS] * [self._spared(node) for node in known])
        np.add.at(self.nodes, rows, sign)
        np.add.at(self.building, rows, [sign * node.building for node in known])
        self._tidy(rows)
        for node, row in zip(known, rows.tolist(), strict=True):
            _step(self.services[node.service], row, sign)
            for service in node.apart_from:
                _step(self.shunned[service], row, sign)
        self._note(rows)

    def _spared(self, node: Standing) -> bool:
        return node.qos_class in self.inventory.spare_zones

    def _tidy(self, rows: Rows) -> None:
        """Take away what floating point left behind on machines that are empty again."""
        empty = rows[self.nodes[rows] == 0]
        if not len(empty):
            return
        self.used[:, empty] = 0.0
        self.free[:, empty] = self.usable[:, empty]

    def _note(self, rows: Rows) -> None:
        self.journal += rows.tolist()
        if len(self.journal) > MOST_CHANGES:
            self.forgotten += len(self.journal) // 2
            del self.journal[: len(self.journal) // 2]

    def changed_since(self, position: int) -> list[int] | None:
        """The rows that changed after a position of the journal; None when that is forgotten."""
        return None if position < self.forgotten else self.journal[position - self.forgotten :]

    @property
    def position(self) -> int:
        """Where the journal stands."""
        return self.forgotten + len(self.journal)

    # -- what was measured

    def set_loads(self, loads: Mapping[str, Load]) -> None:
        """Take new measurements; nodes whose load they do not show yet count in full on top of them."""
        before = self.load_at
        self.loads = dict(loads)
        self._take_loads()
        if (self.load_at < before).any():  # the clock of a machine jumped, or nobody measures it any more
            self._unshown = set(self.standing)
        self._count_unshown()
        self.epoch += 1

    def _count_unshown(self) -> None:
        """Look at those alone that the last measurements did not show: most of what stands was shown long ago."""
        nodes = [node for name in self._unshown for node in self.standing[name] if node.machine in self.row]
        rows = np.array([self.row[node.machine] for node in nodes], dtype=np.intp)
        hidden = ~self._shown(nodes, rows)
        demands = np.array([node.demand for node in nodes]).reshape(len(nodes), len(DIMENSIONS)).T
        _add(self.headroom, rows, -demands * hidden)
        self._unshown = {node.environment for node, counts in zip(nodes, hidden.tolist(), strict=True) if counts}

    def _shown(self, nodes: Sequence[Standing], rows: Rows) -> Flags:
        """Which nodes' load is part of what was measured last of their machines."""
        ramp_s = self.inventory.limits.ramp_s if self.inventory.limits else 0.0
        times = self.load_at[rows].tolist()
        shown = [node.shown_by(at, ramp_s) for node, at in zip(nodes, times, strict=True)]
        return np.array(shown, dtype=bool)

    def _take_loads(self) -> None:
        """`headroom`: what a machine may still take by its measured load; infinite where nothing limits it."""
        limits = self.inventory.limits
        full = [limits.full.get(dimension, np.inf) if limits else np.inf for dimension in DIMENSIONS]
        self.load_at: Floats = np.full(len(self.machines), -np.inf)
        self.headroom: Floats = np.full_like(self.usable, np.inf)
        limited = [at for at, share in enumerate(full) if np.isfinite(share)]
        for at in limited:
            self.headroom[at] = self.real[at] * full[at]
        rows, known = self._measured()
        self.load_at[rows] = [load.at for load in known]
        for at in limited:
            name = DIMENSIONS[at]
            used = np.array([load.used.get(name, 0.0) for load in known]) * self.real[at, rows]
            self.headroom[at, rows] -= np.where(np.isfinite(self.real[at, rows]), used, 0.0)
        self._stale_at = -np.inf
        self._aged_at = np.inf

    def _measured(self) -> tuple[Rows, Iterable[Load]]:
        """The measurements of machines that are known, and their rows: looked up again when other machines are measured
        than the last time.
        """
        names = list(self.loads)
        if names != self._measured_names:
            rows = [self.row[name] for name in names if name in self.row]
            self._measured_names, self._measured_rows = names, np.array(rows, dtype=np.intp)
        if len(self._measured_rows) == len(names):
            return self._measured_rows, self.loads.values()
        return self._measured_rows, [load for name, load in self.loads.items() if name in self.row]

    def age(self, now: float) -> None:
        """Notice that measurements have become too old since the last call, or were made before the clock went back."""
        limits = self.inventory.limits
        if limits is None or self._aged_at <= now <= self._stale_at:
            return
        age = now - self.load_at
        self.stale: Flags = (age > limits.stale_s) | (age < -SKEW_S)
        fresh = self.load_at[~self.stale]
        early = self.load_at[age < -SKEW_S] - SKEW_S - EARLIER_S
        ends = float(fresh.min()) + limits.stale_s if len(fresh) else np.inf
        # what was early counts again from that very moment on, what is fresh a moment longer than its time
        self._stale_at = min(ends, float(np.nextafter(early.min(), -np.inf)) if len(early) else np.inf)
        self._aged_at = now
        self.epoch += 1

    # -- what is asked of it

    def having(self, attribute: Attribute, value: str) -> Flags:
        """The machines that have a value of an attribute."""
        key = (attribute, value)
        if key not in self._with:
            self._with[key] = np.array([value in traits for traits in self._traits_of(attribute)], dtype=bool)
        return self._with[key]

    def _traits_of(self, attribute: Attribute) -> list[frozenset[str]]:
        if attribute not in self._traits:
            self._traits[attribute] = [traits_of(one, attribute, self.inventory) for one in self.machines]
        return self._traits[attribute]

    def holding(self, image: str) -> Flags:
        """The machines that have an image at hand."""
        if image not in self._holding:
            self._holding[image] = np.array([image in one.images for one in self.machines], dtype=bool)
        return self._holding[image]

    def company(self, service: str, apart_from: tuple[str, ...]) -> Flags:
        """The machines with a service that this one shuns, or that shuns this one."""
        journal, key = self._company_of
        if journal is not self.journal or key != (self.position, service, apart_from):
            self._company = self._shunning(service, apart_from)
            self._company_of = self.journal, (self.position, service, apart_from)
        return self._company

    def _shunning(self, service: str, apart_from: tuple[str, ...]) -> Flags:
        flags = np.zeros(len(self.machines), dtype=bool)
        for rows in (self.shunned[service], *(self.services[other] for other in apart_from)):
            flags[np.fromiter(rows, dtype=np.intp, count=len(rows))] = True
        return flags

    def zones_with(self, project: str, service: str) -> frozenset[int]:
        """The zones in which nodes of a project's service stand; found anew after each change, for those who ask.

        Copies share what was found, and tell what is theirs by their journals.
        """
        journal, at, zones = self._nearby.get((project, service), (None, -1, frozenset[int]()))
        if journal is not self.journal or at != self.position:
            zones = frozenset(
                int(self.zone[self.row[node.machine]])
                for nodes in self.standing.values()
                if nodes and (nodes[0].project, nodes[0].service) == (project, service)
                for node in nodes
                if node.machine in self.row
            )
            self._nearby[project, service] = (self.journal, self.position, zones)
        return zones

    def zone_of(self, machine: str) -> str:
        return self.zones[int(self.zone[self.row[machine]])].name

    def clone(self) -> Fleet:
        """A fleet of its own, for what-if."""
        nodes = [node for nodes in self.standing.values() for node in nodes]
        return Fleet(self.inventory, nodes, self.loads)

    def utilisation(self) -> Mapping[str, float]:
        """The promised share of all that is usable, by limited dimension."""
        shares = {}
        for at, dimension in enumerate(DIMENSIONS):
            limited = np.isfinite(self.usable[at])
            total = float(self.usable[at, limited].sum())
            if total:
                shares[dimension] = 1 - float(self.free[at, limited].sum()) / total
        return shares

    def by_load(self, now: float) -> Mapping[str, int]:
        """How many machines take nothing by their load (`full`), were not measured lately (`stale`), or are measured
        above a drain limit (`drain`); empty where there are no limits.
        """
        limits = self.inventory.limits
        if limits is None:
            return {}
        self.age(now)
        full = ~self.stale & (self.headroom <= 0).any(axis=0)
        drain = sum(
            any(load.used.get(dimension, 0.0) > most for dimension, most in limits.drain.items())
            for name, load in self.loads.items()
            if name in self.row and not self.stale[self.row[name]]
        )
        return {"full": int(full.sum()), "stale": int(self.stale.sum()), "drain": drain}


def columns(array: Floats, rows: Rows) -> Floats:
    """Some columns of an array whose columns lie side by side; quicker than an index."""
    return array.T.take(rows, axis=0).T


def _step(counter: Counter[int], row: int, by: int) -> None:
    """Count up or down; what is nothing again is dropped."""
    counter[row] += by
    if not counter[row]:
        del counter[row]


def _add(there: Floats, columns: Rows, what: Floats) -> None:
    """Add to columns, each as often as it is named."""
    np.add.at(there.T, columns, what.T)


def _capacities(machines: tuple[Machine, ...]) -> Floats:
    rows = [[machine.capacity.get(dimension, UNNAMED[dimension]) for dimension in DIMENSIONS] for machine in machines]
    return np.array(rows, dtype=float).reshape(len(machines), len(DIMENSIONS)).T


def most_builds(machines: Iterable[Machine], *, trusted: bool = False) -> Floats:
    """Nodes that may be built on each machine at a time, as it is now, or once no probation holds it down."""
    return np.array([_amount(one.max_builds if trusted else one.builds) for one in machines], dtype=float)


def _amount(limit: float | None) -> float:
    return float("inf") if limit is None else limit
