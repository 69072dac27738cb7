"""Capacity is conserved over any history of a fleet: what it keeps equals what is counted anew, by other means."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.inventory import Inventory, Load, LoadLimits, MachineState, usable
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import NETWORK, SPARE_DIMS, Fleet
from pipeline.domain.placement.model import Placed, Request, Standing
from pipeline.domain.placement.shapes import Shape, shape_of
from pipeline.domain.placement.whatif import what_if
from pipeline.domain.qos import QosClass
from pipeline.domain.resources import DIMENSIONS
from tests.tools import placement_instances as instances


@dataclass
class History:
    """A fleet that lives, and beside it plain lists of what should be on it."""

    dice: random.Random
    now: float = 1000.0
    there: dict[str, list[Standing]] = field(default_factory=dict)
    loads: dict[str, Load] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inventory = self._inventory()
        self.fleet = Fleet(self.inventory)

    def _inventory(self) -> Inventory:
        """Another one each time: machines come, go, change their states and their sizes."""
        limits = LoadLimits(full={"vcpu": 0.9}, stale_s=60.0) if self.dice.random() < 0.5 else None
        plain = instances.inventory(self.dice, self.dice.randint(1, 8), 3)
        zones = tuple(replace(zone, uplink_in=2e9, uplink_out=self.dice.choice([None, 1e9])) for zone in plain.zones)
        return replace(plain, zones=zones, limits=limits, spare_zones=frozenset({QosClass.GUARANTEED}))

    def step(self) -> None:
        self.now += self.dice.choice([0.0, 1.0, 30.0])
        act = self.dice.choice(
            [self.place, self.place, self.place, self.add, self.end, self.built, self.measure, self.change]
        )
        act()

    def place(self) -> None:
        request = instances.rich_request(self.dice, f"env-{len(self.asked)}")
        self.asked.append(request)
        answer = decide(self.fleet, request, self.now, explain=False)
        if isinstance(answer, Placed):
            self.fleet.reserve(request, answer, self.now)
            self.there[request.environment] = [
                Standing(
                    request.environment, request.service, role.role, machine, role.demand, role.qos_class, self.now,
                    building=True, apart_from=role.rules.apart_from,
                )
                for role in request.roles
                for machine in answer.machines[role.role]
            ]  # fmt: skip

    def add(self) -> None:
        """What another scheduler placed, perhaps on a machine that is not known (any more)."""
        name = f"m{self.dice.randrange(10)}"
        node = Standing(f"foreign-{len(self.there)}", "s0", "web", name, instances.demand(0.1, 64.0), since=self.now)
        self.fleet.add([node])
        self.there.setdefault(node.environment, []).append(node)

    def end(self) -> None:
        if self.there:
            gone = self.dice.choice(sorted(self.there))
            del self.there[gone]
            self.fleet.remove(gone)

    def built(self) -> None:
        if self.there:
            name = self.dice.choice(sorted(self.there))
            built = [
                node if not node.building else node._replace(building=False, built_at=self.now)
                for node in self.there[name]
            ]
            self.there[name] = built
            self.fleet.built(name, self.now)

    def measure(self) -> None:
        for machine in self.inventory.machines:
            if self.dice.random() < 0.7:
                self.loads[machine.name] = Load(self.now - self.dice.choice([0, 90]), {"vcpu": self.dice.random()})
        self.fleet.set_loads(self.loads)

    def change(self) -> None:
        self.inventory = self._inventory()
        self.fleet.replace_inventory(self.inventory)

    def nodes(self) -> list[Standing]:
        known = {machine.name for machine in self.inventory.machines}
        return [node for nodes in self.there.values() for node in nodes if node.machine in known]


def check(history: History) -> None:
    """Count everything again from the plain lists."""
    fleet = history.fleet
    on: dict[str, list[Standing]] = {machine.name: [] for machine in history.inventory.machines}
    for node in history.nodes():
        on[node.machine].append(node)
    for machine, most in zip(history.inventory.machines, usable(history.inventory), strict=True):
        row, nodes = fleet.row[machine.name], on[machine.name]
        used = _sum(nodes)
        close(fleet.used[:, row], used[:SPARE_DIMS])
        close(fleet.free[:, row], [a - b for a, b in zip(most, used, strict=True)])
        assert fleet.nodes[row] == len(nodes)
        assert fleet.building[row] == sum(node.building for node in nodes)
        assert bool(fleet.in_service[row]) is (machine.state is MachineState.IN_SERVICE)
        close(fleet.headroom[:, row], _headroom(history, machine.name, nodes))
        for service in ("s0", "s1", "s2"):
            assert fleet.services[service][row] == sum(node.service == service for node in nodes)
            assert fleet.shunned[service][row] == sum(service in node.apart_from for node in nodes)
    for at, zone in enumerate(fleet.zones):
        _check_zone(history, on, at, zone.name)


def _check_zone(history: History, on: dict[str, list[Standing]], at: int, zone: str) -> None:
    inside = [machine for machine in history.inventory.machines if machine.zone == zone]
    nodes = [node for machine in inside for node in on[machine.name]]
    limits = next(one for one in history.inventory.zones if one.name == zone)
    uplink = [math.inf if most is None else most for most in (limits.uplink_in, limits.uplink_out)]
    close(history.fleet.uplink_free[:, at], np.array(uplink) - _sum(nodes)[NETWORK])
    kept = [node for node in nodes if node.qos_class is QosClass.GUARANTEED]
    close(history.fleet.kept[:, at], _sum(kept)[:SPARE_DIMS])
    open_ = [machine for machine in inside if machine.state is MachineState.IN_SERVICE]
    there = sum(
        (np.array([machine.capacity[name] for name in DIMENSIONS[:SPARE_DIMS]]) for machine in open_), np.zeros(3)
    )
    close(history.fleet.zone_free[:, at], there - _sum(node for one in open_ for node in on[one.name])[:SPARE_DIMS])


def _sum(nodes: Iterable[Standing]) -> npt.NDArray[np.float64]:
    total = np.zeros(len(DIMENSIONS))
    for node in nodes:
        total = total + node.demand
    return total


def _headroom(history: History, machine: str, nodes: list[Standing]) -> list[float]:
    """What may still be used by the last measurement, with what it does not show yet on top."""
    limits, load = history.inventory.limits, history.loads.get(machine)
    room = [math.inf] * len(DIMENSIONS)
    if limits is not None:
        vcpu = history.inventory.machine(machine).capacity["vcpu"]
        since = -math.inf if load is None else load.at
        busy = 0.0 if load is None else load.used["vcpu"] * vcpu
        late = [node for node in nodes if node.building or max(node.since, node.built_at) + limits.ramp_s >= since]
        new = sum(node.demand[0] for node in late)
        room[0] = limits.full["vcpu"] * vcpu - busy - new
    return room


def close(kept: npt.ArrayLike, counted: npt.ArrayLike) -> None:
    np.testing.assert_allclose(np.asarray(kept, dtype=float), np.asarray(counted, dtype=float), rtol=1e-9, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**9))
def test_what_a_fleet_keeps_is_what_is_counted_anew(seed: int) -> None:
    history = History(random.Random(seed))
    for number in range(40):
        history.step()
        if number % 5 == 0:
            check(history)
    check(history)
    assert Counter(map(len, history.fleet.standing.values())) == Counter(map(len, history.there.values()))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**9))
def test_kept_shapes_have_the_values_of_new_ones(seed: int) -> None:
    """By the journal, row by row, over anything that happens; and in copies for what-if."""
    dice = random.Random(seed)
    history = History(dice)
    for _ in range(40):
        history.step()
        history.fleet.age(history.now)
        for request in history.asked[-2:]:
            for role in request.roles:
                kept = shape_of(history.fleet, request, role)
                new = Shape(history.fleet, kept.role, request.strategy)
                np.testing.assert_allclose(kept.current(), new.current(), atol=1e-9)
                copy = shape_of(what_if(history.fleet), request, role)
                np.testing.assert_array_equal(copy.current(), kept.current())


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**9))
def test_a_journal_that_was_cut_forgets_nothing(seed: int) -> None:
    """A shape that slept for longer than the journal reaches back is as right as one that was always awake."""
    from pipeline.domain.placement import fleet as module

    dice = random.Random(seed)
    history = History(dice)
    before, module.MOST_CHANGES = module.MOST_CHANGES, 8
    try:
        for _ in range(30):
            history.step()
    finally:
        module.MOST_CHANGES = before
    history.fleet.age(history.now)
    for request in history.asked:
        for role in request.roles:
            kept = shape_of(history.fleet, request, role)
            new = Shape(history.fleet, kept.role, request.strategy)
            np.testing.assert_allclose(kept.current(), new.current(), atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**9))
def test_when_all_is_given_back_all_is_free_again(seed: int) -> None:
    history = History(random.Random(seed))
    for _ in range(30):
        history.step()
    for environment in list(history.fleet.standing):
        history.fleet.remove(environment)
    np.testing.assert_array_equal(history.fleet.free, history.fleet.usable)
    assert not history.fleet.nodes.any()
    assert not history.fleet.building.any()
