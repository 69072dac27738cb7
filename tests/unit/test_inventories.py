"""Inventories: read from a file, kept in the books, changed under the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.local.this_machine import Pose, report
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.bootstrap import Application
from pipeline.domain.blueprint import Priority
from pipeline.domain.changes import differences
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.errors import (
    GreenroomError,
    GuardRefused,
    NotFound,
    PermanentError,
    TransientError,
    UserError,
)
from pipeline.domain.inventory import (
    FORGIVEN_S,
    QUARANTINE_S,
    Aggregate,
    Inventory,
    Machine,
    MachineState,
    Zone,
    usable,
)
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.resources import SIZES
from pipeline.envs.books import Books
from pipeline.envs.events import MACHINE_EVENTS
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories, implicit
from pipeline.envs.previews import preview
from pipeline.ports.stores import Put
from pipeline.settings import ProviderSettings, Settings
from workers.tick import take_over

ME = Asking("me", "a new disk")


def test_this_machine_poses_as_several(tmp_path: Path) -> None:
    whole, parts = report(Pose(tmp_path)), report(Pose(tmp_path / "not-yet", 3, 2), frozenset({"plain"}))
    assert {machine.images for machine in parts.machines} == {frozenset({"plain"})}
    assert [machine.name for machine in parts.machines][:3] == ["rack-a-1", "rack-a-2", "rack-b-1"]
    memory = [machine.capacity["memory_mib"] for machine in parts.machines]
    assert sum(memory) == pytest.approx(whole.machines[0].capacity["memory_mib"])


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


TICK = Asking("tick", "3 of its last 3 builds failed: no disk")


def test_a_suspect_machine_is_out_for_a_while_and_comes_back_on_probation(
    books: Books, inventories: Inventories, clock: ManualClock
) -> None:
    inventories.sync("lab", small("m1", "m2"))
    ledger = inventories.ledger_version()
    assert inventories.quarantine("lab", "m1", TICK)
    assert not inventories.quarantine("lab", "m1", TICK), "it is out already"
    assert inventories.ledger_version() == ledger + 1
    inventories.sync("lab", small("m1", "m2", "m3"))
    first = inventories.view("lab").inventory.machine("m1")
    assert (first.state, first.state_reason, first.back_at) == (
        MachineState.QUARANTINED,
        TICK.why,
        clock.now() + QUARANTINE_S,
    )
    assert inventories.end_quarantines(Asking("tick", "over")) == []
    clock.sleep(QUARANTINE_S)
    assert inventories.end_quarantines(Asking("tick", "over")) == ["lab.m1"]
    back = inventories.view("lab").inventory.machine("m1")
    assert (back.state, back.probation, back.builds, back.back_at) == (MachineState.IN_SERVICE, True, 1, None)
    inventories.end_probations("lab", ["m1", "m2"], Asking("tick", "a build succeeded"))
    assert not inventories.view("lab").inventory.machine("m1").probation
    told = [(event.type, event.data["who"]) for event in books.store.events("machines")]
    assert told == [
        ("machine.quarantined", "tick"),
        ("machine.in-service", "tick"),
        ("machine.in-service", "tick"),
    ]
    targets = [event.data["target"] for event in books.store.events("audit")]
    assert targets == [
        "machine lab/m1 into quarantined",
        "machine lab/m1 into in-service, on probation",
        "machine lab/m1 into in-service",
    ]


def test_each_quarantine_after_the_other_takes_twice_as_long(inventories: Inventories, clock: ManualClock) -> None:
    inventories.sync("lab", small("m1", "m2"))
    for times in (1, 2, 4, 8, 16, 32, 36, 36):
        inventories.quarantine("lab", "m1", TICK)
        assert inventories.view("lab").inventory.machine("m1").back_at == clock.now() + times * QUARANTINE_S
        clock.sleep(times * QUARANTINE_S)
        inventories.end_quarantines(TICK)
    clock.sleep(FORGIVEN_S + 1)
    inventories.quarantine("lab", "m1", TICK)
    assert inventories.view("lab").inventory.machine("m1").back_at == clock.now() + QUARANTINE_S


def test_what_a_person_took_out_comes_back_by_hand_alone(inventories: Inventories, clock: ManualClock) -> None:
    inventories.sync("lab", small("m1", "m2"))
    inventories.set_state("lab", "m1", MachineState.QUARANTINED, ME)
    inventories.quarantine("lab", "m2", TICK)
    inventories.set_state("lab", "m2", MachineState.QUARANTINED, ME)
    clock.sleep(10 * QUARANTINE_S)
    assert inventories.end_quarantines(TICK) == []
    assert inventories.view("lab").inventory.machine("m2").state_reason == "a new disk"
    assert inventories.set_state("lab", "m2", MachineState.IN_SERVICE, ME).builds is None
    assert not inventories.quarantine("lab", "m9", TICK)


def test_a_suspect_machine_is_quarantined_under_its_nodes_and_who_did_it_is_told(
    books: Books, inventories: Inventories
) -> None:
    inventories.sync("lab", small("m1"))
    stand_on(books, "m1")
    assert inventories.set_state("lab", "m1", MachineState.QUARANTINED, ME).state is MachineState.QUARANTINED
    (told,) = books.store.events(MACHINE_EVENTS)
    assert (told.type, told.data["who"], told.data["reason"]) == ("machine.quarantined", "me", "a new disk")


def test_whoever_drains_a_machine_and_puts_it_back_stands_in_the_audit(books: Books, inventories: Inventories) -> None:
    inventories.sync("lab", small("m1"))
    with pytest.raises(UserError, match="there is no guard hold"):
        inventories.set_state("lab", "m1", MachineState.DRAINING, replace(ME, overrides={"hold": "seen"}))
    inventories.set_state("lab", "m1", MachineState.DRAINING, replace(ME, dry_run=True))
    inventories.set_state("lab", "m1", MachineState.DRAINING, ME)
    inventories.set_state("lab", "m1", MachineState.IN_SERVICE, ME)
    told = [(one.type, one.data["target"], one.data["why"], one.data["dry_run"]) for one in books.store.events("audit")]
    assert told == [
        ("audit.drain", "machine lab/m1 into draining", "a new disk", True),
        ("audit.drain", "machine lab/m1 into draining", "a new disk", False),
        ("audit.return", "machine lab/m1 into in-service", "a new disk", False),
    ]


def test_a_machine_that_does_not_exist_is_named(inventories: Inventories) -> None:
    with pytest.raises(NotFound, match="provider lab has no machine m9"):
        inventories.set_state("lab", "m9", MachineState.DRAINING, ME)


class Reporting(Application):
    """An application whose providers answer as they were told."""

    def __init__(self, answers: dict[str, GreenroomError | None]) -> None:
        self.answers = answers

    def sync_inventory(self, provider: str) -> None:
        error = self.answers[provider]
        if error is not None:
            raise error


def test_one_bad_inventory_keeps_no_other_from_being_taken_over(caplog: pytest.LogCaptureFixture) -> None:
    answers = {"bad": UserError("no such file"), "silent": TransientError("no helper"), "old": PermanentError("what?")}
    app = Reporting({**answers, "good": None})
    assert take_over(app, app.answers) == ["silent"]
    told = [record.message for record in caplog.records]
    assert told == [
        "the inventory of provider bad stays as it was: no such file",
        "the inventory of provider silent is taken over later: no helper",
        "the inventory of provider old stays as it was: what?",
    ]
    assert take_over(Reporting({"silent": None}), ["silent"]) == []


def test_a_file_goes_before_what_the_driver_reports(tmp_path: Path) -> None:
    machines = 'machines: [{name: "a-{1..3}", zone: z, vcpu: 8, memory: 64GiB, disk: 1TiB}]'
    (tmp_path / "inventory.yml").write_text(f"version: 1\nzones: [{{name: z}}]\n{machines}\n")
    providers = {
        "declared": ProviderSettings(driver="local", inventory=tmp_path / "inventory.yml"),
        "asked": ProviderSettings(driver="local"),
        "unknown": ProviderSettings(driver="memory"),
    }
    app = Application(Settings(home=tmp_path, providers=providers))
    vars(app)["books"] = Books(MemoryStore(ManualClock()))  # no Redis runs here
    declared = app.declared_inventory("declared")
    assert declared is not None
    assert len(declared.machines) == 3
    assert app.declared_inventory("unknown") is None
    with pytest.raises(TransientError, match="the node helper does not run"):
        app.declared_inventory("asked")
