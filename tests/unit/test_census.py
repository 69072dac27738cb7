"""What is counted of machines for whoever watches them."""

from __future__ import annotations

from dataclasses import replace

from pipeline.adapters.clock import ManualClock
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, MachineState, Zone
from pipeline.domain.resources import Resources
from pipeline.envs.books import Books
from pipeline.envs.census import Censuses
from pipeline.envs.gate import Asking
from pipeline.envs.inventories import Inventories

LIMITS = LoadLimits(full={"vcpu": 0.75}, drain={"vcpu": 0.9}, stale_s=60.0)
MACHINES = tuple(Machine(name, "z", {"vcpu": 4.0, "memory_mib": 1024.0}) for name in ("m1", "m2", "m3", "m4"))


def stand_on(books: Books, machine: str, vcpu: float, now: float) -> None:
    node = Node("web-0", "web", "image", Resources(vcpu, 512, 1), machine=machine, zone="z")
    state, name = EnvironmentState.LEASED, f"env-{machine}"
    made = Environment(name, "p", "s", "run-1", "lab", state, (node,), Priority.PUSH, 0.0, 0.0, 1e9)
    books.commit(books.environments.kind.put(name, replace(made, placed_at=now, built_at=now), 0))


def test_states_promises_and_loads_are_counted(books: Books, inventories: Inventories, clock: ManualClock) -> None:
    inventories.sync("lab", Inventory(MACHINES, (Zone("z"),), limits=LIMITS))
    censuses = Censuses(books, inventories, clock)
    assert censuses.of("lab").by_load == {"full": 0, "stale": 4, "drain": 0}
    now = clock.now()
    shares = {"m1": 0.75, "m2": 0.95, "m3": 0.25, "m9": 2.0}
    inventories.report_loads("lab", {name: Load(now, {"vcpu": share}) for name, share in shares.items()})
    inventories.set_state("lab", "m4", MachineState.DRAINING, Asking("me", "a new disk"))
    clock.sleep(5)
    census = censuses.of("lab")
    assert census.by_load == {"full": 2, "stale": 1, "drain": 1}
    assert (census.states[MachineState.IN_SERVICE], census.states[MachineState.DRAINING]) == (3, 1)
    assert census.states[MachineState.DOWN] == 0
    assert census.promised == {"vcpu": 0.0, "memory_mib": 0.0}
    stand_on(books, "m3", 2.0, clock.now())
    census = censuses.of("lab")
    assert census.promised == {"vcpu": 0.125, "memory_mib": 0.125}
    assert census.by_load["full"] == 3  # one vcpu measured, and two that no measurement shows yet
    clock.sleep(61)
    assert censuses.of("lab").by_load == {"full": 0, "stale": 4, "drain": 0}


def test_without_limits_no_load_is_counted(books: Books, inventories: Inventories, clock: ManualClock) -> None:
    assert Censuses(books, inventories, clock).of("lab").by_load == {}
