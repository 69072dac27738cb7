"""Commands that need no deployment, and what commands say without one."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.cli.demo.developer import BAD, BROKEN_FILE, GOOD, SAMPLE
from pipeline.cli.demo.place import free_ports, temporary_place
from pipeline.cli.demo.proof import Proof
from pipeline.cli.main import main
from pipeline.cli.output import Complaint

COMMANDS = (
    "up", "down", "doctor", "demo", "run", "runs", "show", "logs", "cancel", "rerun", "ssh", "release",
    "environments", "triggers", "project", "hook", "validate", "schema", "version",
)  # fmt: skip
#: Modules that take long to import, which `--help` must not.
HEAVY = ("httpx", "pydantic", "pipeline.bootstrap", "pipeline.settings", "redis", "rq", "fastapi")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Greenroom = Callable[..., Done]


@pytest.fixture
def greenroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Greenroom:
    """Runs a command in this process, with an empty home."""
    monkeypatch.setenv("GREENROOM_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["greenroom", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Done(int(ended.value.code or 0), said.out, said.err)

    return run


def test_help_names_every_command(greenroom: Greenroom) -> None:
    done = greenroom("--help")
    assert done.returncode == 0
    assert set(COMMANDS) <= set(re.findall(r"[a-z]+", done.stdout))


def test_help_imports_nothing_heavy() -> None:
    code = "import sys, pipeline.cli.main; print(*[name for name in sys.argv[1:] if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code, *HEAVY], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("arguments", [["runs"], ["show", "last"], ["run", "@main"], ["project", "ls"]])
def test_without_a_deployment_the_exit_status_is_3(arguments: list[str], greenroom: Greenroom) -> None:
    done = greenroom(*arguments)
    assert done.returncode == 3
    assert "greenroom up" in done.stderr


def test_nothing_to_stop_is_refused(greenroom: Greenroom) -> None:
    done = greenroom("down")
    assert (done.returncode, done.stdout) == (4, "")


def test_wrong_settings_are_named(tmp_path: Path, greenroom: Greenroom) -> None:
    (tmp_path / "config.toml").write_text("workers = 0\n")
    done = greenroom("runs")
    assert done.returncode == 2
    assert "workers" in done.stderr


def test_unknown_options_are_usage(greenroom: Greenroom) -> None:
    assert greenroom("runs", "--nonsense").returncode == 2
    assert greenroom("rerun", "x", "--from", "tset").returncode == 2


def test_a_home_too_long_for_sockets_is_refused(
    tmp_path: Path, greenroom: Greenroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENROOM_HOME", str(tmp_path / ("x" * 100)))
    done = greenroom("up")
    assert done.returncode == 2
    assert "shorter path" in done.stderr


def test_validate_says_where_mistakes_are(tmp_path: Path, greenroom: Greenroom) -> None:
    file = tmp_path / "greenroom.yml"
    file.write_text("version: 1\nservice: shop\nenvironment:\n  roels: {}\n")
    done = greenroom("validate", str(tmp_path))
    assert done.returncode == 1
    assert f"{file}:4:3:" in done.stdout
    findings = json.loads(greenroom("validate", str(file), "--json").stdout)["findings"]
    assert (4, 3) in [(finding["line"], finding["column"]) for finding in findings]


def test_validate_knows_the_sample(greenroom: Greenroom) -> None:
    done = greenroom("validate", str(SAMPLE))
    assert (done.returncode, done.stderr) == (0, "")
    assert "service shop with web × 2, db × 1" in done.stdout


def test_validate_tells_which_files_are_missing(tmp_path: Path, greenroom: Greenroom) -> None:
    roles = "{web: {script: setup.sh}, db: {script: there.sh}}"
    suites = "[{testinfra: tests/web}, {testinfra: there}]"
    text = f"version: 1\nservice: shop\nenvironment: {{image: i, roles: {roles}}}\ntest: {suites}\n"
    (tmp_path / "greenroom.yml").write_text(text)
    (tmp_path / "there.sh").touch()
    (tmp_path / "there").mkdir()
    done = greenroom("validate", str(tmp_path))
    assert done.returncode == 0
    told = [line.split(" is not in ")[0] for line in done.stdout.splitlines() if "a run of a commit without" in line]
    assert told == ["setup.sh", "tests/web"]
    assert json.loads(greenroom("validate", str(tmp_path), "--json").stdout)["missing"] == told


def test_validate_tells_how_nodes_are_connected(tmp_path: Path, greenroom: Greenroom) -> None:
    file = tmp_path / "greenroom.yml"
    wired = "{open: [443/tcp], networks: {back: 10.40.0.7}, server: {flavor: m1.large}}"
    environment = f"{{image: i, networks: {{back: {{cidr: 10.40.0.0/24}}}}, roles: {{web: {wired}, db: }}}}"
    file.write_text(f"version: 1\nservice: shop\nenvironment: {environment}\ntest: []\n")
    done = greenroom("validate", str(file))
    assert done.stdout.splitlines()[1:] == ["  web: in back (10.40.0.7); open 443/tcp; sets flavor of its servers"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path, greenroom: Greenroom) -> None:
    done = greenroom("validate", str(tmp_path / "no.yml"))
    assert done.returncode == 1
    assert "no.yml cannot be read: No such file or directory; name the file, or go to the directory" in done.stderr


def test_schema_is_json(greenroom: Greenroom) -> None:
    assert json.loads(greenroom("schema").stdout)["$schema"].startswith("https://json-schema.org/")


def test_the_demos_mistake_fits_its_sample() -> None:
    text = (SAMPLE / BROKEN_FILE).read_text()
    assert text.count(GOOD) == 1
    assert BAD not in text


def test_the_demo_has_a_home_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREENROOM_REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("GREENROOM_CHEF_PACKAGE", "/chef.deb")
    before = dict(os.environ)
    with temporary_place() as place:
        assert os.environ["GREENROOM_HOME"] == str(place.home)
        assert "GREENROOM_REDIS_URL" not in os.environ
        assert os.environ["GREENROOM_CHEF_PACKAGE"] == "/chef.deb"
        assert place.home.stat().st_mode & 0o777 == 0o700
    assert dict(os.environ) == before
    assert not place.root.exists()


def test_free_ports_differ() -> None:
    assert len(set(free_ports(5))) == 5


NOTHING: dict[str, list[str]] = {"processes": [], "network namespaces": [], "cgroups": []}
SOMETHING = {"processes": ["7 sshd"], "network namespaces": ["env-1"], "cgroups": ["/x"]}


def test_the_proof_wants_nothing_before_and_after() -> None:
    Proof({"before": NOTHING, "held": SOMETHING, "after": NOTHING}).check()
    with pytest.raises(Complaint, match="7 sshd"):
        Proof({"before": NOTHING, "held": SOMETHING, "after": SOMETHING}).check()


def test_a_proof_that_never_saw_the_nodes_proves_nothing() -> None:
    with pytest.raises(Complaint, match="could not be seen"):
        Proof({"before": NOTHING, "held": NOTHING, "after": NOTHING}).check()


INVENTORY = """\
version: 1
zones: [{name: rack-a, region: tokyo}, {name: rack-b, region: tokyo}]
machines:
  - {name: "a-{1..2}", zone: rack-a, vcpu: 8, memory: 64GiB, disk: 1TiB}
  - {name: b-1, zone: rack-b, vcpu: 4, memory: 16GiB, disk: 100GiB}
overcommit: {vcpu: 4}
"""


def test_a_good_inventory_is_summed_up_by_zone(tmp_path: Path, greenroom: Greenroom) -> None:
    file = tmp_path / "inventory.yml"
    file.write_text(INVENTORY)
    done = greenroom("inventory", "check", str(file))
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines() if "rack-a" in line] == [
        ["rack-a", "tokyo", "2", "64", "128", "GiB", "2,048", "GiB"]
    ]
    assert "is good: 3 machines in 2 zones, 0 rules" in done.stdout
    told = json.loads(greenroom("inventory", "check", str(file), "--json").stdout)
    assert (told["machines"], told["findings"]) == (3, [])
    assert told["zones"][1]["promisable"] == {"vcpu": 16, "memory_mib": 16384, "disk_gib": 100, "hugepages_mib": 0}


def test_mistakes_of_an_inventory_have_their_place(tmp_path: Path, greenroom: Greenroom) -> None:
    file = tmp_path / "inventory.yml"
    file.write_text(INVENTORY.replace("zone: rack-b", "zone: rack-bb").replace("16GiB", "16"))
    for command in ("check", "diff"):
        done = greenroom("inventory", command, str(file))
        assert done.returncode == 1
        assert done.stdout.splitlines()[0].startswith(f"{file}:5:23: machines[1].zone: no zone rack-bb")
    told = json.loads(greenroom("inventory", "check", str(file), "--json").stdout)
    assert [finding["key"] for finding in told["findings"]] == ["machines[1].zone", "machines[1].memory"]


def test_an_inventory_that_cannot_be_read_is_named(tmp_path: Path, greenroom: Greenroom) -> None:
    for place, why in ((tmp_path / "none.yml", "No such file"), (tmp_path, "it is a directory")):
        done = greenroom("inventory", "check", str(place))
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{place} cannot be read: {why}" in done.stderr


def test_a_difference_is_told_machine_by_machine(
    tmp_path: Path, greenroom: Greenroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, object]] = []
    answer: dict[str, object] = {
        "provider": "lab",
        "added": ["a-1"],
        "changed": [{"machine": "b-1", "differences": ["vcpu 8 -> 4"], "short": ["2 vCPU"], "nodes": ["env-1/web-0"]}],
        "gone": [{"machine": "c-1", "nodes": ["env-2/db-0"]}, {"machine": "c-2", "nodes": []}],
        "others": ["zone rack-c is gone"],
        "unchanged": 1,
    }

    class Told:
        def post(self, path: str, body: dict[str, object]) -> dict[str, object]:
            asked.append((path, body["inventory"]))
            return answer

    monkeypatch.setattr("pipeline.cli.client.connect", Told)
    file = tmp_path / "inventory.yml"
    file.write_text(INVENTORY)
    shown = greenroom("inventory", "diff", str(file), "--provider", "lab").stdout
    assert asked == [("/v1/inventories/lab/diff", INVENTORY)]
    rows = [re.sub(r" {2,}", " | ", line.strip()) for line in shown.splitlines()]
    assert "added | a-1" in rows
    assert "changed | b-1 | vcpu 8 -> 4; 2 vCPU short of what is promised there; on it: env-1/web-0" in rows
    assert "gone | c-1 | goes down, takes nothing more; on it: env-2/db-0" in rows
    assert "gone | c-2 | forgotten" in rows
    assert "1 machines stay as they are" in rows
    assert json.loads(greenroom("inventory", "diff", str(file), "--json").stdout) == answer
    answer.update(added=[], changed=[], gone=[], others=[])
    assert "nothing would change" in greenroom("inventory", "diff", str(file)).stdout


PROFILES = """\
[qos_profiles.fast]
profile = "strong"
disk_write_iops = 9000
[qos_profiles.steady]
network_in = "1Gbit/s"
"""


def test_profiles_of_the_settings_are_listed_and_known(tmp_path: Path, greenroom: Greenroom) -> None:
    (tmp_path / "config.toml").write_text(PROFILES)
    listed = {one["profile"]: one for one in json.loads(greenroom("qos", "profiles", "--json").stdout)}
    assert {name: one["from"] for name, one in listed.items()} == {
        "frugal": "built in",
        "steady": "settings",
        "strong": "built in",
        "fast": "settings",
    }
    assert (listed["fast"]["qos_class"], listed["fast"]["disk_write_iops"]) == ("guaranteed", 9000)
    assert (listed["steady"]["network_in"], listed["steady"]["disk_read_iops"]) == (10**9, None)
    assert "9,000" in greenroom("qos", "profiles").stdout
    file = tmp_path / "greenroom.yml"
    file.write_text("version: 1\nservice: shop\nenvironment: {image: debian-12, roles: {web: {qos: fast}}}\ntest: []\n")
    assert greenroom("validate", str(file)).returncode == 0
    file.write_text(file.read_text().replace("fast", "fats"))
    assert "no QoS profile fats; did you mean fast?" in greenroom("validate", str(file)).stdout
    offered = json.loads(greenroom("schema").stdout)["$defs"]["qos"]["examples"]
    assert offered == ["fast", "frugal", "steady", "strong"]


@pytest.mark.parametrize(
    ("told", "part"),
    [
        (
            '[qos_profiles.fast]\nnetwork_in = "100MB/s"',
            "fast: Value error, network_in: expected a network",
        ),
        (
            "[qos_profiles.fast]\ndisk_read_iops = -5",
            "disk_read_iops: expected a whole number from 1 to 10000000, got -5",
        ),
        ("[qos_profiles]\nfast = 5", "qos_profiles.fast"),
        ("[qos_profiles.Fast]", "qos_profiles.Fast"),
    ],
)
@pytest.mark.parametrize("command", [["up"], ["qos", "profiles"], ["validate"]])
def test_a_bad_profile_ends_the_start(
    tmp_path: Path, greenroom: Greenroom, command: list[str], told: str, part: str
) -> None:
    (tmp_path / "config.toml").write_text(told)
    done = greenroom(*command)
    assert done.returncode == 2
    assert part in done.stderr
