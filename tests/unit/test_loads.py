"""Placement by measured load: what measurements do not show yet counts in full, so no machine gets above its limit."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node, Nomination
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, MachineState, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest, Standing
from pipeline.domain.placement.requests import nominated_of
from pipeline.domain.resources import Resources
from tests.tools.placement_instances import demand

FULL = {"vcpu": 0.8, "memory_mib": 0.9}
VCPU, MEMORY = 8.0, 8192.0


def inventory(machines: int, ramp_s: float = 5.0) -> Inventory:
    """Ten times of everything may be promised: only the load limits."""
    capacity = {"vcpu": VCPU, "memory_mib": MEMORY}
    return Inventory(
        tuple(Machine(f"m{n}", f"z{n % 2}", capacity) for n in range(machines)),
        (Zone("z0"), Zone("z1")),
        overcommit={"vcpu": 10.0, "memory_mib": 10.0},
        limits=LoadLimits(FULL, stale_s=60.0, ramp_s=ramp_s),
    )


def asking(name: str, count: int = 1, vcpu: float = 2.0) -> Request:
    return Request(name, "p", "s", (RoleRequest("app", count, demand(vcpu, 512.0)),))


def fits(fleet: Fleet, name: str, now: float) -> bool:
    return isinstance(decide(fleet, asking(name), now), Placed)


def place(fleet: Fleet, name: str, now: float) -> None:
    answer = decide(fleet, asking(name), now)
    assert isinstance(answer, Placed)
    fleet.reserve(asking(name), answer, now)


@pytest.mark.parametrize(
    ("measured_at", "shown"),
    [(9.0, False), (25.0, False), (30.0, False), (35.0, False), (35.1, True)],
    ids=["before it was placed", "while it was built", "at the end of its build", "within the ramp", "after it"],
)
def test_a_node_counts_in_full_until_a_measurement_after_its_build(*, measured_at: float, shown: bool) -> None:
    """Room for 6.4 vcpu: three of two."""
    fleet = Fleet(inventory(1), loads={"m0": Load(8.0, {})})
    for number in range(3):
        place(fleet, f"e{number}", 10.0)
        fleet.built(f"e{number}", 30.0)
    fleet.set_loads({"m0": Load(measured_at, {"vcpu": 0.1})})
    assert fits(fleet, "next", measured_at + 20) is shown


def test_a_build_that_lasts_counts_whatever_is_measured() -> None:
    fleet = Fleet(inventory(1), loads={"m0": Load(8.0, {})})
    for number in range(3):
        place(fleet, f"e{number}", 10.0)
    fleet.set_loads({"m0": Load(1000.0, {"vcpu": 0.0})})
    assert not fits(fleet, "next", 1001.0)
    fleet.remove("e0")
    assert fits(fleet, "next", 1001.0)


def test_what_stood_before_times_of_builds_were_kept_counts_by_when_it_was_placed() -> None:
    old = Standing("e", "s", "app", "m0", demand(6.0, 512.0), since=10.0)
    assert not fits(Fleet(inventory(1), [old], {"m0": Load(12.0, {})}), "next", 20.0)
    assert fits(Fleet(inventory(1), [old], {"m0": Load(16.0, {})}), "next", 20.0)


def test_measurements_that_go_back_in_time_show_less_again() -> None:
    fleet = Fleet(inventory(1), loads={"m0": Load(8.0, {})})
    for number in range(3):
        place(fleet, f"e{number}", 10.0)
        fleet.built(f"e{number}", 12.0)
    fleet.set_loads({"m0": Load(40.0, {"vcpu": 0.1})})
    assert fits(fleet, "next", 41.0)
    fleet.set_loads({"m0": Load(11.0, {"vcpu": 0.1})})
    assert not fits(fleet, "next", 41.0)


@dataclass
class World:
    """What really goes on: each node uses a constant part of what it asked for, from some moment of its build on."""

    dice: random.Random
    fleet: Fleet
    inventory: Inventory
    now: float = 0.0
    uses: dict[str, list[tuple[str, tuple[float, float]]]] = field(default_factory=dict)
    builds: dict[str, float] = field(default_factory=dict)
    underway: list[tuple[float, Mapping[str, Load]]] = field(default_factory=list)
    made: int = 0

    def load(self) -> dict[str, tuple[float, float]]:
        """Of each machine, in vcpu and MiB, with all that ever begins before its build's end counted already."""
        loads = {machine.name: (0.0, 0.0) for machine in self.inventory.machines}
        for nodes in self.uses.values():
            for name, (vcpu, memory) in nodes:
                loads[name] = (loads[name][0] + vcpu, loads[name][1] + memory)
        return loads

    def measure(self) -> None:
        """A measurement sees nothing of some builds; it is known late, and not of every machine."""
        loads = {machine.name: (0.0, 0.0) for machine in self.inventory.machines}
        for environment, nodes in self.uses.items():
            if environment not in self.builds or self.dice.random() < 0.5:
                for name, (vcpu, memory) in nodes:
                    loads[name] = (loads[name][0] + vcpu, loads[name][1] + memory)
        seen = {
            name: Load(self.now, {"vcpu": vcpu / VCPU, "memory_mib": memory / MEMORY})
            for name, (vcpu, memory) in loads.items()
            if self.dice.random() < 0.9
        }
        self.underway.append((self.now + self.dice.uniform(0, 30), seen))

    def learn(self) -> None:
        """What is known by now, latest first; a machine that was left out keeps its older measurement."""
        for known in [one for one in self.underway if one[0] <= self.now]:
            self.underway.remove(known)
            newer = {
                name: load
                for name, load in known[1].items()
                if name not in self.fleet.loads or self.fleet.loads[name].at < load.at
            }
            self.fleet.set_loads({**self.fleet.loads, **newer})

    def start(self) -> None:
        self.made += 1
        request = asking(f"e{self.made}", self.dice.randint(1, 3), self.dice.choice([0.5, 1.0, 2.0]))
        answer = decide(self.fleet, request, self.now, explain=False)
        if isinstance(answer, Placed):
            self.fleet.reserve(request, answer, self.now)
            role = request.roles[0]
            part = self.dice.choice([0.1, 0.5, 1.0])
            used = (part * role.demand[0], part * role.demand[1])
            self.uses[request.environment] = [(name, used) for name in answer.machines["app"]]
            self.builds[request.environment] = self.now + self.dice.uniform(0, 40)

    def end(self) -> None:
        environment = self.dice.choice(sorted(self.uses))
        del self.uses[environment]
        self.builds.pop(environment, None)
        self.fleet.remove(environment)

    def settle(self) -> None:
        for environment in [one for one, at in self.builds.items() if at <= self.now]:
            self.fleet.built(environment, self.now)
            del self.builds[environment]

    def shake(self) -> None:
        """A machine fails and comes back, or the picture is made anew."""
        if self.dice.random() < 0.5:
            self.fleet = self.fleet.clone()
        at = self.dice.randrange(len(self.inventory.machines))
        states = [MachineState.IN_SERVICE, MachineState.DRAINING]
        changed = self.inventory.machines[at].to(self.dice.choice(states), self.now, "")
        machines = (*self.inventory.machines[:at], changed, *self.inventory.machines[at + 1 :])
        self.inventory = replace(self.inventory, machines=machines)
        self.fleet.replace_inventory(self.inventory)


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_no_machine_is_ever_above_its_limit_when_nodes_use_at_most_what_they_asked_for(seed: int) -> None:
    dice = random.Random(seed)
    known = inventory(dice.randint(1, 3), ramp_s=0.0)
    world = World(dice, Fleet(known, loads={one.name: Load(-1.0, {}) for one in known.machines}), known)
    for _ in range(dice.randint(20, 120)):
        world.now += dice.uniform(0, 4)
        world.settle()
        world.learn()
        world.start()
        if dice.random() < 0.4:
            world.measure()
        if world.uses and dice.random() < 0.2:
            world.end()
        if dice.random() < 0.05:
            world.shake()
        for vcpu, memory in world.load().values():
            assert vcpu <= FULL["vcpu"] * VCPU + 1e-6
            assert memory <= FULL["memory_mib"] * MEMORY + 1e-6
    fresh = world.fleet.clone()
    np.testing.assert_allclose(world.fleet.headroom, fresh.headroom, atol=1e-6)


def test_a_place_that_waits_for_its_request_is_shown_by_no_measurement() -> None:
    nodes = tuple(Node(f"app-{n}", "app", "plain", Resources(2, 512, 1)) for n in range(3))
    asked = Environment("e", "p", "s", "run", "lab", EnvironmentState.REQUESTED, nodes, Priority.PUSH, 0.0, 0.0, 1e9)
    waiting = replace(asked, nomination=Nomination({node.name: "m0" for node in nodes}, ("victim",), 100.0))
    fleet = Fleet(inventory(1), nominated_of(waiting), {"m0": Load(50.0, {"vcpu": 0.1})})
    assert not fits(fleet, "next", 60.0)
    fleet.remove("nominated:e")
    assert fits(fleet, "next", 60.0)


@given(st.lists(st.tuples(st.sampled_from(["place", "built", "measure"]), st.integers(-30, 30)), max_size=25))
def test_a_fleet_whose_builds_end_counts_like_one_that_is_counted_anew(acts: list[tuple[str, int]]) -> None:
    fleet = Fleet(inventory(3))
    names = [machine.name for machine in fleet.machines]
    for now, (act, by) in enumerate(acts, 100):
        if act == "place":
            nodes = [
                Standing(f"e{now}", "shop", "web", name, demand(2.0, 512.0), since=now, building=True)
                for name in names[:2]
            ]
            fleet.add([*nodes, nodes[0]._replace(machine="gone"), nodes[1]._replace(building=by > 0)])
        elif act == "built" and fleet.standing:
            fleet.built(min(fleet.standing, key=lambda name: (not fleet.standing[name][0].building, name)), now)
        elif act == "measure":
            fleet.set_loads({name: Load(now + by, {"vcpu": 0.1}) for name in names})
    anew = fleet.clone()
    for kept in ("used", "free", "headroom", "building", "nodes"):
        assert np.allclose(getattr(fleet, kept), getattr(anew, kept)), kept
