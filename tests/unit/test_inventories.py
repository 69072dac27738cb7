"""Inventories: read from a file, kept in the books, changed under the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.inventories import this_machine
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.errors import GuardRefused, NotFound
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.resources import SIZES
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories, implicit

ME = Asking("me", "a new disk")


def test_this_machine_poses_as_several(tmp_path: Path) -> None:
    whole, parts = this_machine.report(tmp_path, 1, 1), this_machine.report(tmp_path / "not-yet", 3, 2)
    assert [machine.name for machine in parts.machines][:3] == ["rack-a-1", "rack-a-2", "rack-b-1"]
    memory = [machine.capacity["memory_mib"] for machine in parts.machines]
    assert sum(memory) == pytest.approx(whole.machines[0].capacity["memory_mib"])


@pytest.fixture
def books() -> Books:
    return Books(MemoryStore(ManualClock()))


@pytest.fixture
def inventories(books: Books) -> Inventories:
    return Inventories(books, ManualClock(), Gate(books, ManualClock()))


def small(*names: str) -> Inventory:
    return Inventory(tuple(Machine(name, "z", {"vcpu": 4.0}) for name in names), (Zone("z"),))


def stand_on(books: Books, machine: str) -> None:
    node = Node("web-0", "web", "image", SIZES["small"], machine=machine, zone="z")
    environment = Environment(
        "env-1", "p", "s", "run-1", "lab", EnvironmentState.LEASED, (node,), Priority.PUSH, 0.0, 0.0, 1e9
    )
    books.commit(books.environments.kind.put("env-1", environment, 0))


def test_what_is_declared_is_kept_and_counted_in_the_ledger(inventories: Inventories) -> None:
    assert inventories.view("lab").inventory == implicit("lab")
    assert inventories.sync("lab", small("m1", "m2"))
    assert not inventories.sync("lab", small("m1", "m2"))
    assert inventories.ledger_version() == 1
    assert inventories.sync("lab", small("m1", "m3"))
    assert [machine.name for machine in inventories.view("lab").inventory.machines] == ["m1", "m3"]
    assert inventories.ledger_version() == 2


def test_an_operators_state_outlives_a_sync(inventories: Inventories) -> None:
    inventories.sync("lab", small("m1", "m2"))
    version = inventories.version("lab")
    assert inventories.set_state("lab", "m1", MachineState.DRAINING, ME).state_reason == "a new disk"
    assert inventories.version("lab") == version + 1
    inventories.sync("lab", small("m1", "m2", "m3"))
    assert inventories.view("lab").inventory.machine("m1").state is MachineState.DRAINING


def test_a_machine_that_vanishes_under_nodes_goes_down_and_comes_back(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", small("m1", "m2"))
    stand_on(books, "m2")
    inventories.sync("lab", small("m1"))
    assert inventories.view("lab").inventory.machine("m2").state is MachineState.DOWN
    inventories.sync("lab", small("m1", "m2"))
    assert inventories.view("lab").inventory.machine("m2").state is MachineState.IN_SERVICE


def test_a_machine_in_use_is_not_taken_out_but_with_a_reason(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", small("m1"))
    stand_on(books, "m1")
    with pytest.raises(GuardRefused, match="in-use: take-out of machine lab/m1 into maintenance: it is in use by"):
        inventories.set_state("lab", "m1", MachineState.MAINTENANCE, ME)
    forced = replace(ME, overrides={"in-use": "it burns"})
    tried = inventories.set_state("lab", "m1", MachineState.MAINTENANCE, replace(forced, dry_run=True))
    assert tried.state is MachineState.IN_SERVICE
    assert inventories.set_state("lab", "m1", MachineState.MAINTENANCE, forced).state is MachineState.MAINTENANCE


def test_a_machine_that_does_not_exist_is_named(inventories: Inventories) -> None:
    with pytest.raises(NotFound, match="provider lab has no machine m9"):
        inventories.set_state("lab", "m9", MachineState.DRAINING, ME)
