"""Inventories: read from a file, kept in the books, changed under the ledger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.local.this_machine import Pose, report
from pipeline.adapters.inventories import yaml_file
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.bootstrap import Application
from pipeline.domain.blueprint import Priority
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
    Inventory,
    Machine,
    MachineState,
    Zone,
    overcommit_of,
    unknown_names,
)
from pipeline.domain.resources import DIMENSIONS, SIZES
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import MACHINE_EVENTS, Inventories, implicit
from pipeline.settings import ProviderSettings, Settings
from workers.tick import take_over

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/inventory.md"
ME = Asking("me", "a new disk")
FILE = """\
version: 1
zones: [{name: rack-a, region: tokyo, uplink: 10Gbit/s}, {name: rack-b}]
aggregates: [{name: ssd, overcommit: {vcpu: 2}}]
machines:
  - {name: "a-{01..03}", zone: rack-a, aggregates: ssd, vcpu: 8, memory: 64GiB, disk: 1TiB, network: 1Gbit/s}
"""


def read(tmp_path: Path, text: str) -> Inventory:
    file = tmp_path / "inventory.yml"
    file.write_text(text)
    return yaml_file.read(file)


def test_a_file_is_read_with_its_units(tmp_path: Path) -> None:
    inventory = read(tmp_path, FILE)
    assert [machine.name for machine in inventory.machines] == ["a-01", "a-02", "a-03"]
    first = inventory.machine("a-02")
    assert first.capacity == {"vcpu": 8, "memory_mib": 65536, "disk_gib": 1024, "network_in": 1e9, "network_out": 1e9}
    assert inventory.zones[0] == Zone("rack-a", "tokyo", 1e10, 1e10)
    assert overcommit_of(first, inventory)[DIMENSIONS.index("vcpu")] == 2


def test_the_guide_shows_a_good_file(tmp_path: Path) -> None:
    text = GUIDE.read_text().split("```yaml\n")[1].split("```")[0]
    assert len(read(tmp_path, text).machines) == 20


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("1Gbit/s}", "1GB/s}", "got bytes in '1GB/s'"),
        ("vcpu: 8", "vcpu: -8", "machines.0.vcpu: Input should be greater than or equal to 0"),
        ("64GiB", "64", "expected a size such as 256GiB"),
        ("64GiB", "999999999TiB", "a capacity of 1.04858e+15 memory_mib makes no sense"),
        ("name: rack-b", "name: rack-a", "zone rack-a stands there 2 times"),
        ("zone: rack-a", "zone: rack-z", "machine a-01: there is no zone rack-z"),
        ("aggregates: ssd", "aggregates: hdd", "machine a-01: there is no aggregate hdd"),
        ("{vcpu: 2}", "{vcpus: 2}", "there is no overcommit 'vcpus'"),
        ("a-{01..03}", "a-{03..01}", "expected a range upwards"),
        ("a-{01..03}", "../a b", "use letters, digits"),
        ("version: 1", "version: 2", "version"),
        ("version: 1", "version: 1\nlimits: {full: {memory: 0.9}}", "there is no full 'memory'; known are vcpu"),
        ("version: 1", "version: 1\nlimits: {drain: {vcpu: -1}}", "limits.drain.vcpu: Input should be greater than 0"),
        (
            "version: 1",
            "version: 1\nlimits: {full: {vcpu: 0.9}, drain: {vcpu: 0.8}}",
            "drain 0.8 of vcpu is below full 0.9",
        ),
        ("version: 1", "version: 1\nlimits: {stale: 0s}", "stale 0 s and ramp 5 s make no sense"),
        ("zones:", "zones: [", "is no YAML"),
        ("vcpu: 8", "cores: 8", "machines.0.cores: Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert old in FILE
    with pytest.raises(UserError) as error:
        read(tmp_path, FILE.replace(old, new, 1))
    assert told in str(error.value)


RULES = """\
version: 1
rules:
  - {name: near-users, match: {role: web}, require: {region: [tokyo, osaka]}, max_per_zone: 2}
  - {name: no-old-disks, forbid: {aggregate: hdd}, apart_from: payroll}
"""


def test_the_rules_of_a_project_are_written_as_an_operators() -> None:
    near, disks = yaml_file.read_rules("rules.yml", RULES, "project shop")
    assert (near.name, near.match, near.max_per_zone) == ("near-users", {"role": ("web",)}, 2)
    assert [str(one) for one in near.affinities] == [
        "require region tokyo or osaka (project shop rule near-users)",
    ]
    assert (disks.match, disks.apart_from) == ({}, ("payroll",))
    assert [str(one) for one in disks.affinities] == ["forbid aggregate hdd (project shop rule no-old-disks)"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("version: 1", "version: 2", "rules.yml cannot be used:\n  version: "),
        ("role: web", "rolle: web", "rules.0.match.rolle"),
        ("region:", "planet:", "rules.0.require.planet"),
        ("max_per_zone: 2", "max_per_zone: 0", "rules.0.max_per_zone"),
        ("no-old-disks", "near-users", "rules.yml: rule near-users stands there more than once"),
        ("rules:", "zones: []\nrules:", "zones: Extra inputs are not permitted"),
        ("rules:", "rules: [", "rules.yml is no YAML"),
    ],
)
def test_mistakes_in_rules_are_named(old: str, new: str, told: str) -> None:
    assert old in RULES
    with pytest.raises(UserError) as error:
        yaml_file.read_rules("rules.yml", RULES.replace(old, new, 1), "project shop")
    assert told in str(error.value)


def test_what_no_inventory_has_is_found() -> None:
    rules = yaml_file.read_rules("rules.yml", RULES, "project shop")
    tokyo, osaka = (Inventory((), (Zone("z", region),)) for region in ("tokyo", "osaka"))
    assert list(unknown_names(rules, [tokyo, osaka])) == ["rule no-old-disks: there is no aggregate hdd"]
    assert "rule near-users: there is no region osaka" in list(unknown_names(rules, [tokyo]))


def test_a_file_that_is_not_there_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read: No such file"):
        yaml_file.read(tmp_path / "none.yml")
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not UTF-8"):
        yaml_file.read(tmp_path / "bytes.yml")


def test_this_machine_poses_as_several(tmp_path: Path) -> None:
    whole, parts = report(Pose(tmp_path)), report(Pose(tmp_path / "not-yet", 3, 2), frozenset({"plain"}))
    assert {machine.images for machine in parts.machines} == {frozenset({"plain"})}
    assert [machine.name for machine in parts.machines][:3] == ["rack-a-1", "rack-a-2", "rack-b-1"]
    memory = [machine.capacity["memory_mib"] for machine in parts.machines]
    assert sum(memory) == pytest.approx(whole.machines[0].capacity["memory_mib"])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def books(clock: ManualClock) -> Books:
    return Books(MemoryStore(clock))


@pytest.fixture
def inventories(books: Books, clock: ManualClock) -> Inventories:
    return Inventories(books, clock, Gate(books, clock))


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
    (tmp_path / "inventory.yml").write_text(FILE)
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
