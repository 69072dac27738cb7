"""Reading an inventory.yml: what it becomes, and where and how each mistake is told."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pipeline.adapters.inventories import yaml_file
from pipeline.adapters.inventories.yaml_file.formats import FORMATS
from pipeline.domain.errors import Finding, InvalidInventory, UserError
from pipeline.domain.inventory import Inventory, LoadLimits, Zone, overcommit_of, unknown_names
from pipeline.domain.resources import DIMENSIONS

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/inventory.md"
FILE = """\
version: 1
zones: [{name: rack-a, region: tokyo, uplink: 10Gbit/s}, {name: rack-b}]
aggregates: [{name: ssd, overcommit: {vcpu: 2}, features: nvme}]
machines:
  - {name: "a-{01..03}", zone: rack-a, aggregates: ssd, vcpu: 8, memory: 64GiB, disk: 1TiB, network: 1Gbit/s}
  - {name: b-1, zone: rack-b, vcpu: 4, memory: 16GiB, disk: 100GiB}
rules:
  - {name: pay, match: {service: pay}, require: {zone: rack-a}}
  - {name: shop, match: {service: shop}, forbid: {region: tokyo}}
limits: {full: {vcpu: 0.9}, drain: {vcpu: 0.95}}
"""


def read(text: str) -> Inventory:
    return yaml_file.parse("inventory.yml", text.encode())


def findings(text: str | bytes) -> tuple[Finding, ...]:
    with pytest.raises(InvalidInventory) as caught:
        yaml_file.parse("inventory.yml", text if isinstance(text, bytes) else text.encode())
    return caught.value.findings


def changed(old: str, new: str) -> str:
    assert old in FILE
    return FILE.replace(old, new, 1)


def test_a_file_is_read_with_its_units() -> None:
    inventory = read(FILE)
    assert [machine.name for machine in inventory.machines] == ["a-01", "a-02", "a-03", "b-1"]
    first = inventory.machine("a-02")
    assert first.capacity == {"vcpu": 8, "memory_mib": 65536, "disk_gib": 1024, "network_in": 1e9, "network_out": 1e9}
    assert inventory.zones[0] == Zone("rack-a", "tokyo", 1e10, 1e10)
    assert overcommit_of(first, inventory)[DIMENSIONS.index("vcpu")] == 2
    assert inventory.limits == LoadLimits({"vcpu": 0.9}, {"vcpu": 0.95}, 60.0)


def test_directions_of_a_network_and_huge_pages_may_be_told_apart() -> None:
    told = read(changed("network: 1Gbit/s", "network: 1Gbit/s, network_in: 2Gbit/s, hugepages: 8GiB")).machines[0]
    assert (told.capacity["network_in"], told.capacity["network_out"]) == (2e9, 1e9)
    assert told.capacity["hugepages_mib"] == 8192


def test_the_guide_shows_a_good_file() -> None:
    text = GUIDE.read_text().split("```yaml\n")[1].split("```")[0]
    assert len(read(text).machines) == 20


def test_the_schema_is_one_and_knows_all_formats_and_dimensions() -> None:
    schema = yaml_file.schema()
    Draft202012Validator.check_schema(schema)
    assert {f'"format": "{name}"' in str(schema).replace("'", '"') for name in FORMATS} == {True}
    assert tuple(schema["$defs"]["ratios"]["properties"]) == DIMENSIONS


@pytest.mark.parametrize(
    ("old", "new", "place", "told"),
    [
        ("1Gbit/s}", "1GB/s}", "5:102 machines[0].network", "got bytes in '1GB/s' (1 byte is 8 bits)"),
        ("disk: 1TiB", "disk: 1TiB, disk_read: 100Mbit/s", "5:104 machines[0].disk_read", "got bits in '100Mbit/s'"),
        ("vcpu: 8", "vcpu: -8", "5:63 machines[0].vcpu", "expected more than 0, got -8"),
        ("vcpu: 8", "vcpu: .nan", "5:63 machines[0].vcpu", "expected a finite number, got .nan"),
        ("vcpu: 8", "vcpu: 1e6", "5:63 machines[0].vcpu", "expected at most 100000, got 1000000"),
        ("vcpu: 8", "vcpu: eight", "5:63 machines[0].vcpu", "expected a number of cores, got 'eight'"),
        ("64GiB", "64", "5:74 machines[0].memory", "expected a size with its unit, such as 256GiB, got the number 64"),
        ("64GiB", "'64'", "5:74 machines[0].memory", "got no unit in '64'; known are MiB, GiB, TiB"),
        ("64GiB", "64GB", "5:74 machines[0].memory", "got the unit GB in '64GB'; known are MiB, GiB, TiB"),
        ("64GiB", "-64GiB", "5:74 machines[0].memory", "expected a size such as 256GiB, got '-64GiB'"),
        ("64GiB", "0GiB", "5:74 machines[0].memory", "expected more than nothing, got '0GiB'"),
        ("64GiB", "9999TiB", "5:74 machines[0].memory", "expected at most 1024TiB, which no machine has"),
        ("vcpu: 8", "cores: 8", "5:57 machines[0].cores", "unknown key; known are aggregates, disk"),
        ("vcpu: 8", "vpcu: 8", "5:57 machines[0].vpcu", "unknown key; did you mean vcpu?"),
        ("vcpu: 8, ", "", "5:5 machines[0]", "expected the key `vcpu`: a number of cores"),
        ("name: rack-b", "name: rack-a", "2:65 zones[1].name", "zone rack-a stands here again, first in line 2"),
        ("name: b-1", "name: a-02", "6:12 machines[1].name", "machine a-02 stands here again, first in line 5"),
        ("name: shop", "name: pay", "9:12 rules[1].name", "rule pay stands here again, first in line 8"),
        ("zone: rack-a", "zone: rack-aa", "5:32 machines[0].zone", "no zone rack-aa in this inventory; did you mean"),
        ("aggregates: ssd", "aggregates: [ssd, hdd]", "5:58 machines[0].aggregates[1]", "no aggregate hdd in this"),
        ("{zone: rack-a}", "{zone: rack-z}", "8:56 rules[0].require.zone", "no zone rack-z in this inventory"),
        ("{zone: rack-a}", "{kind: metal}", "8:56 rules[0].require.kind", "did you mean bare-metal?"),
        ("{zone: rack-a}", "{rack: rack-a}", "8:50 rules[0].require.rack", "unknown key; known are aggregate, feature"),
        ("{service: pay}", "{qos_class: gold}", "8:36 rules[0].match.qos_class", "expected guaranteed or burstable or"),
        ("{vcpu: 2}", "{vcpus: 2}", "3:39 aggregates[0].overcommit.vcpus", "unknown key; did you mean vcpu?"),
        ("{vcpu: 2}", "{vcpu: 5000}", "3:45 aggregates[0].overcommit.vcpu", "expected at most 1000, got 5000"),
        ("a-{01..03}", "a-{03..01}", "5:12 machines[0].name", "expected a range upwards of at most 100000 machines"),
        ("a-{01..03}", "a-{1..100000}", "5:3 machines", "expected at most 100000 machines in all"),
        ("a-{01..03}", "../a b", "5:12 machines[0].name", "expected letters, digits, dots"),
        ("limits: {", "limits: {stale: 0s, ", "10:17 limits.stale", "expected more than no time, got '0s'"),
        ("limits: {", "limits: {ramp: fast, ", "10:16 limits.ramp", "expected a duration such as 60s"),
        ("{vcpu: 0.95}", "{memory: 1}", "10:37 limits.drain.memory", "unknown key; did you mean memory_mib?"),
        ("{vcpu: 0.95}", "{vcpu: 0.5}", "10:43 limits.drain.vcpu", "at which line 10 calls the machine full, got 0.5"),
        ("version: 1", "version: 2", "1:10 version", "expected 1, got the number 2"),
        ("version: 1", "version: 1\nversion: 1", "2:1 version", "the key stands here twice, first in line 1"),
        ("zones: [{", "zones: [[{", "3:1 ", "this is no YAML"),
        ("zone: rack-a, a", "zone: &here rack-a, zone: *here, a", "5:46 machines[0].zone", "stands here twice"),
    ],
)
def test_a_mistake_is_told_with_its_place(old: str, new: str, place: str, told: str) -> None:
    found = findings(changed(old, new))
    shown = [(f"{one.line}:{one.column} {one.key}", one.message) for one in found]
    assert [message for where, message in shown if where == place and told in message], shown


def test_all_mistakes_are_told_in_the_order_of_the_file() -> None:
    text = FILE.replace("64GiB", "64GB").replace("zone: rack-b,", "zone: rack-bb,").replace("tokyo}}", "osaka}}")
    assert [finding.line for finding in findings(text)] == [5, 6, 9]


def contradicting(first: str, second: str) -> str:
    return FILE.replace("{service: pay}, require: {zone: rack-a}", first).replace(
        "{service: shop}, forbid: {region: tokyo}", second
    )


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (
            "{service: pay}, require: {zone: rack-a}",
            "{service: [pay, shop]}, forbid: {zone: rack-a}",
            "rule shop forbids zone rack-a, but rule pay in line 8 requires zone rack-a: no machine is left",
        ),
        (
            "{service: pay}, require: {zone: rack-a}",
            "{}, forbid: {region: tokyo}",
            "rule shop forbids region tokyo, but rule pay in line 8 requires zone rack-a: no machine is left",
        ),
        (
            "{service: pay}, require: {zone: rack-a}",
            "{service: pay, role: db}, require: {machine: b-1}",
            "rule shop requires machine b-1, but rule pay in line 8 requires zone rack-a: no machine is left",
        ),
        (
            "{service: pay}, require: {feature: nvme}, forbid: {machine: [a-01, a-02, a-03]}",
            "{service: shop}",
            "rule pay forbids machine a-01 or a-02 or a-03, but line 8 of the same rule requires feature nvme",
        ),
    ],
)
def test_rules_that_leave_no_machine_are_both_named(first: str, second: str, told: str) -> None:
    (finding,) = findings(contradicting(first, second))
    assert finding.message.startswith(told)
    assert finding.line == (8 if "same rule" in told else 9)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("{service: pay}, require: {zone: rack-a}", "{service: shop}, forbid: {zone: rack-a}"),
        ("{service: pay}, require: {zone: rack-a}", "{role: db}, forbid: {zone: rack-a}"),
        ("{service: pay}, require: {zone: rack-a}", "{service: pay}, forbid: {machine: [a-01, a-02]}"),
        ("{service: pay}, require: {zone: rack-a}", "{service: pay}, prefer: {zone: rack-b}"),
        ("{service: pay}, require: {zone: [rack-a, rack-b]}", "{service: pay}, forbid: {zone: rack-a}"),
    ],
)
def test_rules_that_never_meet_or_leave_something_are_good(first: str, second: str) -> None:
    assert len(read(contradicting(first, second)).rules) == 2


def test_an_empty_file_says_how_one_begins() -> None:
    for text in ("", "# nothing\n", "---\n"):
        assert [str(one) for one in findings(text)] == [
            "line 1, column 1: the file is empty; an inventory starts with `version: 1`"
        ]


@pytest.mark.parametrize(
    "text", ["[]", "7", "machines: 7", "zones: [7]\nmachines: [x, {name: [], zone: {}}]\nrules: 1"]
)
def test_what_has_another_shape_is_told_and_breaks_nothing(text: str) -> None:
    assert findings(text)


def test_bytes_that_are_no_text_are_told() -> None:
    (finding,) = findings(b"version: 1\nz: \xff")
    assert str(finding) == "line 2, column 4: expected UTF-8, got the byte 0xff"


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"none\.yml cannot be read: No such file"):
        yaml_file.content_of(tmp_path / "none.yml")
    with pytest.raises(UserError, match="cannot be read: it is a directory"):
        yaml_file.content_of(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe cannot be read: it is no regular file"):
        yaml_file.content_of(tmp_path / "pipe")
    (tmp_path / "secret.yml").write_text(FILE)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match=r"secret\.yml cannot be read: Permission denied"):
        yaml_file.content_of(tmp_path / "secret.yml")


def test_a_huge_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    file = tmp_path / "huge.yml"
    with file.open("wb") as made:
        made.truncate(64 * yaml_file.BOUNDS.size)
    with pytest.raises(InvalidInventory, match="expected at most 4096 KiB"):
        yaml_file.parse("huge.yml", yaml_file.content_of(file))


def test_aliases_that_multiply_are_refused() -> None:
    bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    for name, before in zip("bcdefg", "abcdef", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n"
    told: list[Finding] = []
    thread = threading.Thread(target=lambda: told.extend(findings(bomb)), daemon=True)
    thread.start()
    thread.join(20)
    assert "aliases expand to more than 200000 values" in told[0].message


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
        ("version: 1", "version: 2", "rules.yml: line 1, column 10 (version): expected 1, got the number 2"),
        ("role: web", "rolle: web", "line 3, column 32 (rules[0].match.rolle): unknown key; did you mean role?"),
        ("region:", "planet:", "line 3, column 54 (rules[0].require.planet): unknown key; known are aggregate"),
        ("max_per_zone: 2", "max_per_zone: 0", "(rules[0].max_per_zone): expected at least 1, got 0"),
        (
            "no-old-disks",
            "near-users",
            "line 4, column 12 (rules[1].name): rule near-users stands here again",
        ),
        ("rules:", "zones: []\nrules:", "line 2, column 1 (zones): unknown key; known are rules, version"),
        ("rules:", "rules: [", "rules.yml: line 3, column 3: this is no YAML"),
    ],
)
def test_mistakes_in_rules_have_their_place(old: str, new: str, told: str) -> None:
    assert old in RULES
    with pytest.raises(InvalidInventory) as error:
        yaml_file.read_rules("rules.yml", RULES.replace(old, new, 1), "project shop")
    assert told in str(error.value)


def test_what_no_inventory_has_is_found() -> None:
    rules = yaml_file.read_rules("rules.yml", RULES, "project shop")
    tokyo, osaka = (Inventory((), (Zone("z", region),)) for region in ("tokyo", "osaka"))
    assert list(unknown_names(rules, [tokyo, osaka])) == ["rule no-old-disks: there is no aggregate hdd"]
    assert "rule near-users: there is no region osaka" in list(unknown_names(rules, [tokyo]))
