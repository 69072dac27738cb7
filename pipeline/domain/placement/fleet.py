"""The picture of one provider that placement works on: numpy arrays that are kept and changed, never built anew."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.domain.inventory import Inventory, Load, Machine, MachineKind, MachineState, Zone, names_of, usable
from pipeline.domain.placement.model import Placed, Request, Standing
from pipeline.domain.resources import DIMENSIONS
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
#: Shapes of roles whose arrays are kept at a time.
MOST_SHAPES = 64


class Fleet:
    """Machines sorted by zone: `slices[z]` are the rows of zone `z`. Arrays are dimensions x machines.

    `free` is what may still be promised, infinite where it is not limited. `journal` lists the rows that changed, in
    order; whoever keeps something by row reads on from where it stopped. Changed by its methods alone.
    """

    def __init__(
        self, inventory: Inventory, standing: Iterable[Standing] = (), loads: Mapping[str, Load] | None = None
    ) -> None:
        self.standing: dict[str, list[Standing]] = defaultdict(list)
        self.loads: Mapping[str, Load] = dict(loads or {})
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
        bounds = np.searchsorted(self.zone, np.arange(len(self.zones) + 1))
        self.slices = tuple(slice(a, b) for a, b in pairwise(bounds.tolist()))
        amounts = usable(inventory)
        shape = (len(self.machines), len(DIMENSIONS))
        self.usable: Floats = np.array([amounts[at] for at in places], dtype=float).reshape(shape).T.copy()
        self.real = _capacities(self.machines)
        self._fixed()
        self._count_again()

    def _fixed(self) -> None:
        self.in_service: Flags = np.array([one.state is MachineState.IN_SERVICE for one in self.machines], dtype=bool)
        self.bare: Flags = np.array([one.kind is MachineKind.BARE_METAL for one in self.machines], dtype=bool)
        most = [one.max_builds if one.max_builds is not None else np.inf for one in self.machines]
        self.max_builds: Floats = np.array(most, dtype=float)
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
        self.free: Floats = self.usable.copy()
        self.used: Floats = np.zeros_like(self.free)
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
        self._take_loads()
        self._count([node for nodes in self.standing.values() for node in nodes], 1)

    # -- what stands

    def add(self, standing: Iterable[Standing]) -> None:
        """Count nodes that were placed."""
        nodes = list(standing)
        for one in nodes:
            self.standing[one.environment].append(one)
        self._count(nodes, 1)

    def remove(self, environment: str) -> list[Standing]:
        """Forget the nodes of an environment; what they were."""
        gone = self.standing.pop(environment, [])
        self._count(gone, -1)
        return gone

    def built(self, environment: str) -> None:
        """The builds of an environment are over."""
        nodes = self.standing.get(environment, [])
        if any(node.building for node in nodes):
            self.add(_settled(node) for node in self.remove(environment))

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
        _add(self.used, rows, demands)
        _add(self.free, rows, -demands)
        _add(self.zone_free, zones, -demands[:SPARE_DIMS] * self.open[:, rows])
        _add(self.uplink_free, zones, -demands[NETWORK])
        _add(
            self.headroom,
            rows,
            -demands * [node.since > self.load_at[row] for node, row in zip(known, rows, strict=True)],
        )
        if self.inventory.spare_zones:
            _add(self.kept, zones, demands[:SPARE_DIMS] * [self._spared(node) for node in known])
        np.add.at(self.nodes, rows, sign)
        np.add.at(self.building, rows, [sign * node.building for node in known])
        self._tidy(rows)
        for node, row in zip(known, rows.tolist(), strict=True):
            self.services[node.service][row] += sign
            for service in node.apart_from:
                self.shunned[service][row] += sign
        self._note(rows)

    def _spared(self, node: Standing) -> bool:
        return node.qos_class in self.inventory.spare_zones

    def _tidy(self, rows: Rows) -> None:
        """Take away what floating point left behind on machines that are empty again."""
        empty = rows[self.nodes[rows] == 0]
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
        """Take new measurements; nodes that were placed after one count on top of it."""
        self.loads = dict(loads)
        self._take_loads()
        for nodes in self.standing.values():
            for node in nodes:
                row = self.row.get(node.machine)
                if row is not None and node.since > self.load_at[row]:
                    self.headroom[:, row] -= np.asarray(node.demand)
        self.epoch += 1

    def _take_loads(self) -> None:
        """`headroom`: what a machine may still take by its measured load; infinite where nothing limits it."""
        limits = self.inventory.limits
        full = [limits.full.get(dimension, np.inf) if limits else np.inf for dimension in DIMENSIONS]
        self.load_at: Floats = np.full(len(self.machines), -np.inf)
        self.headroom: Floats = np.full_like(self.usable, np.inf)
        limited = [at for at, share in enumerate(full) if np.isfinite(share)]
        for at in limited:
            self.headroom[at] = self.real[at] * full[at]
        for name, load in self.loads.items():
            row = self.row.get(name)
            if row is not None:
                self.load_at[row] = load.at
                for at in limited:
                    if np.isfinite(self.real[at, row]):
                        self.headroom[at, row] -= load.used.get(DIMENSIONS[at], 0.0) * self.real[at, row]
        self._stale_at = -np.inf

    def age(self, now: float) -> None:
        """Notice that measurements have become too old since the last call."""
        limits = self.inventory.limits
        if limits is None or now <= self._stale_at:
            return
        self.stale: Flags = now - self.load_at > limits.stale_s
        fresh = self.load_at[~self.stale]
        self._stale_at = float(fresh.min()) + limits.stale_s if len(fresh) else np.inf
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


def _add(there: Floats, columns: Rows, what: Floats) -> None:
    """Add to columns, each as often as it is named."""
    np.add.at(there.T, columns, what.T)


def traits_of(machine: Machine, attribute: Attribute, inventory: Inventory) -> frozenset[str]:
    """What a rule about an attribute sees of a machine."""
    if attribute is Attribute.AGGREGATE:
        return frozenset(machine.aggregates)
    if attribute is Attribute.FEATURE:
        own = (one.features for one in inventory.aggregates if one.name in machine.aggregates)
        return machine.features.union(*own)
    if attribute is Attribute.REGION:
        return frozenset(zone.region for zone in inventory.zones if zone.name == machine.zone)
    single = {Attribute.ZONE: machine.zone, Attribute.KIND: str(machine.kind), Attribute.MACHINE: machine.name}
    return frozenset({single[attribute]})


def _capacities(machines: tuple[Machine, ...]) -> Floats:
    rows = [[machine.capacity.get(dimension, np.inf) for dimension in DIMENSIONS] for machine in machines]
    return np.array(rows, dtype=float).reshape(len(machines), len(DIMENSIONS)).T.copy()


def _amount(limit: float | None) -> float:
    return float("inf") if limit is None else limit


def _settled(node: Standing) -> Standing:
    return replace(node, building=False)
