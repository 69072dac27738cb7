"""Inventories: read from a file, kept in the books, changed under the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.inventories import this_machine
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.blueprint import Priority
from pipeline.domain.changes import differences
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.errors import GuardRefused, NotFound
from pipeline.domain.inventory import Aggregate, Inventory, Machine, MachineState, Zone, usable
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.resources import SIZES
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories, implicit
from pipeline.envs.previews import preview
from pipeline.ports.stores import Put

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


def stand_on(books: Books, machine: str, *more: Put) -> None:
    node = Node("web-0", "web", "image", SIZES["small"], machine=machine, zone="z")
    environment = Environment(
        "env-1", "p", "s", "run-1", "lab", EnvironmentState.LEASED, (node,), Priority.PUSH, 0.0, 0.0, 1e9
    )
    books.commit(books.environments.kind.put("env-1", environment, 0), *more)


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


def in_zones(**machines: str) -> Inventory:
    """Machines by the zone that each stands in, all of the hardware type of that zone."""
    zones = tuple(Zone(name) for name in dict.fromkeys(machines.values()))
    types = tuple(Aggregate(f"type-{zone.name}", {"vcpu": 2.0}) for zone in zones)
    there = (Machine(name, zone, {"vcpu": 4.0}, (f"type-{zone}",)) for name, zone in machines.items())
    return Inventory(tuple(there), zones, types)


def test_a_machine_that_stays_undeclared_keeps_its_zone_and_hardware_type(
    books: Books, inventories: Inventories
) -> None:
    inventories.sync("lab", in_zones(m1="z1", m2="z2"))
    stand_on(books, "m2")
    inventories.sync("lab", in_zones(m1="z1"))
    left = inventories.view("lab").inventory
    assert Fleet(left).zone_of("m2") == "z2"
    assert usable(left)[1][0] == 8.0
    assert not inventories.sync("lab", in_zones(m1="z1"))


class Meanwhile(MemoryStore):
    """Lets something happen once, right after the standing environments were looked up."""

    act: Callable[[], None] | None = None

    def index(self, name: str, *, limit: int = 100, offset: int = 0, newest_first: bool = False) -> Sequence[str]:
        found = super().index(name, limit=limit, offset=offset, newest_first=newest_first)
        act, self.act = self.act, None if name.startswith("environments:standing") else self.act
        if act is not None and self.act is None:
            act()
        return found


@pytest.mark.parametrize("change", ["sync", "maintenance"])
def test_a_reservation_between_the_look_and_the_write_is_seen(change: str) -> None:
    store = Meanwhile(ManualClock())
    books = Books(store)
    inventories = Inventories(books, ManualClock(), Gate(books, ManualClock()))
    inventories.sync("lab", small("m1", "m2"))

    def reserve() -> None:
        stand_on(books, "m2", inventories.ledger_put(inventories.ledger_version()))

    store.act = reserve
    if change == "sync":
        inventories.sync("lab", small("m1"))
        assert inventories.view("lab").inventory.machine("m2").state is MachineState.DOWN
    else:
        with pytest.raises(GuardRefused, match="in-use"):
            inventories.set_state("lab", "m2", MachineState.MAINTENANCE, ME)


def test_a_preview_tells_what_a_sync_would_do_and_writes_nothing(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", in_zones(m1="z1", m2="z2", m3="z1", m4="z1"))
    inventories.set_state("lab", "m1", MachineState.DRAINING, ME)
    stand_on(books, "m2")
    version = inventories.version("lab")
    declared = in_zones(m1="z1", m4="z2", m5="z1")
    found = preview(books, "lab", declared, 5.0)
    assert [machine.name for machine in found.changes.added] == ["m5"]
    assert [differences(*pair) for pair in found.changes.changed] == [
        ("zone z1 -> z2", "aggregates type-z1 -> type-z2")
    ]
    assert [machine.name for machine in found.changes.forgotten] == ["m3"]
    assert [machine.name for machine in found.changes.downed] == ["m2"]
    assert found.standing == {"m2": ("env-1/web-0",)}
    assert inventories.version("lab") == version
    inventories.sync("lab", declared)
    after = {machine.name: (machine.zone, machine.state) for machine in inventories.view("lab").inventory.machines}
    assert after == {
        "m1": ("z1", MachineState.DRAINING),
        "m2": ("z2", MachineState.DOWN),
        "m4": ("z2", MachineState.IN_SERVICE),
        "m5": ("z1", MachineState.IN_SERVICE),
    }
    again = preview(books, "lab", declared, 6.0).changes
    assert again == replace(again, added=(), changed=(), forgotten=(), downed=(), others=())


def test_a_preview_tells_what_a_shrunken_machine_would_lack(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", small("m1"))
    stand_on(books, "m1")
    smaller = replace(small("m1"), machines=(Machine("m1", "z", {"vcpu": 0.25, "memory_mib": 4096.0}),))
    found = preview(books, "lab", smaller, 5.0)
    assert found.short == {"m1": ("0.75 vCPU",)}
    assert differences(*found.changes.changed[0]) == ("vcpu 4 -> 0.25", "memory_mib not limited -> 4096")


def test_a_preview_tells_what_else_changes(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", replace(in_zones(m1="z1", m2="z2"), overcommit={"vcpu": 4.0}))
    wider = in_zones(m1="z1", m2="z3")
    declared = replace(wider, zones=(Zone("z1", uplink_in=1e9), Zone("z3")), spare_zones=frozenset({"guaranteed"}))
    assert preview(books, "lab", declared, 5.0).changes.others == (
        "zone z3 is added",
        "zone z2 is gone",
        "zone z1 changes",
        "aggregate type-z3 is added",
        "aggregate type-z2 is gone",
        "overcommit changes: vcpu 4 -> none",
        "spare_zones changes: none -> guaranteed",
    )


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
