"""What the vagrant driver decides without Vagrant: files, names, addresses, boxes, limits, logs, ends of sessions."""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from pipeline.adapters.drivers.vagrant.locks import Locks
from pipeline.adapters.drivers.vagrant.lxc import box
from pipeline.adapters.drivers.vagrant.lxc.limits import limits
from pipeline.adapters.drivers.vagrant.lxc.provider import reason_in
from pipeline.adapters.drivers.vagrant.lxc.seed import plant
from pipeline.adapters.drivers.vagrant.network import LAST_NODE, Network, assigned, hardware_address
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.seed import files, hosts
from pipeline.adapters.drivers.vagrant.session import FILE, pattern
from pipeline.adapters.drivers.vagrant.sessions import Output, end_session
from pipeline.adapters.drivers.vagrant.terms import ADDRESSES, Image
from pipeline.domain.errors import CapacityError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.envs.build_logs import BuildLogs
from pipeline.ports.common import Secret
from pipeline.ports.drivers import NodeRequest
from pipeline.settings import ProviderSettings
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

TEMPLATES = Path(__file__).parents[2] / "vagrant"
SMALL = Resources(vcpu=1.5, memory_mib=1024, disk_gib=5)
NODE = NodeRequest("web-0", "web", "plain", SMALL, QosProfile(), Secret("private"), "ssh-ed25519 AAAA")
MACHINE = {"box": "plain", "container": "greenroom.ours.env-1.web-0", "config": [["net.0.type", "veth"]]}


#: What Ruby says first when it dies, and where it was, when it dies and when it is told of it.
DYING = "/usr/share/a/file.rb:7:in `start': there is no kernel vmlinuz (Libvirt::Error)"
TRACE = "\n\tfrom a/file.rb:1:in `call'\n/usr/share/a/file.rb:22:in `run'\n<internal:kernel>:90:in `tap'\n\n"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place(tmp_path / "env-1", "lxc")
    made.open(TEMPLATES)
    return made


def test_whoever_does_not_wait_is_told_that_somebody_is_at_it(tmp_path: Path) -> None:
    locks = Locks(tmp_path)
    with locks.environment("env-1"), pytest.raises(TransientError, match="env-1"), locks.at_once("env-1"):
        pytest.fail("two are at it")
    with locks.at_once("env-1"):
        assert locks.busy("env-1")
    assert not locks.busy("env-1")


def test_a_directory_has_the_templates_and_what_is_to_be_there(place: Place) -> None:
    place.write(99.0, "run-1", {"web-0": MACHINE})
    assert {"Vagrantfile", "provider.rb", "environment.json"} == {file.name for file in place.path.iterdir()}
    assert (place.ends_at(), place.owner(), place.machines()) == (99.0, "run-1", {"web-0": MACHINE})
    assert json.loads((place.path / "environment.json").read_text())["machines"]["web-0"] == MACHINE
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o700


def test_a_directory_whose_making_was_interrupted_tells_nothing(place: Place) -> None:
    assert (place.ends_at(), place.owner(), place.machines()) == (0.0, "", {})
    (place.path / "environment.json").write_text('{"ends_')
    assert (place.ends_at(), place.owner(), place.machines()) == (0.0, "", {})


def test_a_forgotten_node_is_not_to_be_there_any_more(place: Place) -> None:
    place.write(99.0, "run-1", {"web-0": MACHINE, "web-1": MACHINE})
    place.forget(["web-1", "never-there"])
    assert (place.ends_at(), place.owner(), list(place.machines())) == (99.0, "run-1", ["web-0"])


def test_vagrant_believes_in_what_there_is_and_nothing_else(place: Place) -> None:
    known = place.path / ".vagrant/machines"
    place.tell({"web-0": "old", "web-1": "gone"})
    place.tell({"web-0": "new"})
    assert (known / "web-0/lxc/id").read_text() == "new"
    assert [entry.name for entry in known.iterdir()] == ["web-0"]


def test_nodes_are_being_made_until_that_is_over(place: Place) -> None:
    assert place.being_made() == ()
    with place.making(["web-0", "web-1"]):
        assert place.being_made() == ["web-0", "web-1"]
    assert place.being_made() == ()


def test_several_machines_are_named_by_one_expression() -> None:
    assert pattern(["web-0", "db.1"]) == r"/^(web\-0|db\.1)$/"


def test_nodes_get_the_lowest_addresses_that_are_free() -> None:
    taken = ["10.213.7.10", "10.213.7.12"]
    assert assigned("10.213.7", taken, ["a", "b"]) == {"a": "10.213.7.11", "b": "10.213.7.13"}
    with pytest.raises(CapacityError, match="room for"):
        assigned("10.213.7", (), [f"web-{i}" for i in range(LAST_NODE)])


def test_an_address_has_always_the_same_hardware_address() -> None:
    assert hardware_address("10.213.7.11") == "00:16:3e:d5:07:0b"


def test_links_of_deployments_differ_and_fit() -> None:
    ours, theirs = Network("ours", ADDRESSES), Network("theirs", ADDRESSES)
    assert ours.prefix != theirs.prefix
    assert len(ours.new_link()) <= 15
    assert ours.new_link() != ours.new_link()


def test_a_box_is_named_by_all_that_is_in_it(tmp_path: Path) -> None:
    one = box.contents(TEMPLATES, Image(tmp_path / "one", 1000))
    other = box.contents(TEMPLATES, Image(tmp_path / "other", 1000))
    assert box.name_of("plain", one) == box.name_of("plain", box.contents(TEMPLATES, Image(tmp_path / "one", 1000)))
    assert box.name_of("plain", one) != box.name_of("plain", other)
    assert one["base"] == f"ROOT={tmp_path / 'one'}\nFIRST_ID=1000\n".encode()


def test_a_box_is_what_vagrant_lxc_takes(tmp_path: Path) -> None:
    box.pack(tmp_path / "plain.box", box.contents(TEMPLATES, Image(tmp_path, 1000)))
    with tarfile.open(tmp_path / "plain.box") as archive:
        members = {member.name: member.mode for member in archive}
        metadata = archive.extractfile("metadata.json")
        assert metadata is not None
        assert json.load(io.TextIOWrapper(metadata)) == {"provider": "lxc", "version": "1.0.0"}
    assert members.keys() == {"metadata.json", "lxc-config", "lxc-template", "base", box.ARCHIVE}
    assert members["lxc-template"] == 0o755


def test_a_node_gets_its_keys_its_name_and_its_neighbours(tmp_path: Path) -> None:
    seed, strict = tmp_path / "seed", os.umask(0o077)
    try:
        named = hosts({"web-1": "10.213.7.11", "web-0": "10.213.7.10"})
        plant(seed, files(NODE, named, ["login"]), os.getuid())
    finally:
        os.umask(strict)
    assert (seed / "etc/ssh/ssh_host_ed25519_key").read_text() == "private\n"
    assert (seed / "root/.ssh/authorized_keys").read_text() == "login\n"
    assert (seed / "etc/hostname").read_text() == "web-0\n"
    assert (seed / "etc/hosts").read_text().endswith("10.213.7.10 web-0\n10.213.7.11 web-1\n")
    modes = {
        ".": 0o755, "etc": 0o755, "etc/hosts": 0o644, "etc/ssh/ssh_host_ed25519_key": 0o600, "root": 0o700,
        "root/.ssh": 0o700, "usr/local/sbin/greenroom-start": 0o755,
    }  # fmt: skip
    assert {name: stat.S_IMODE((seed / name).stat().st_mode) for name in modes} == modes


@pytest.mark.parametrize(
    ("version_2", "memory", "processors"),
    [
        (False, ("cgroup.memory.limit_in_bytes", "1073741824"), ("cgroup.cpu.cfs_quota_us", "150000")),
        (True, ("cgroup2.memory.max", "1073741824"), ("cgroup2.cpu.max", "150000 100000")),
    ],
)
def test_limits_are_said_in_the_words_of_the_machine(
    version_2: bool, memory: tuple[str, str], processors: tuple[str, str]
) -> None:
    said = limits(SMALL, version_2=version_2)
    assert memory in said
    assert processors in said
    assert said[-1][1] == "1024"


def test_the_first_error_of_lxc_is_the_reason(tmp_path: Path) -> None:
    said = (
        "lxc-start web-0 20261126160149.520 WARN     cgfsng - ../src/lxc/cgroups/cgfsng.c:f:1 - not this\n"
        "lxc-start web-0 20261126160149.520 ERROR    conf - ../src/lxc/conf.c:g:2 - Failed to mount rootfs - really\n"
        "lxc-start web-0 20261126160149.520 ERROR    start - ../src/lxc/start.c:h:3 - Failed to start\n"
    )
    (tmp_path / "web-0.lxc").write_text(said)
    assert reason_in(tmp_path / "web-0.lxc") == "Failed to mount rootfs - really"
    assert reason_in(tmp_path / "web-1.lxc") == ""


def test_processes_of_a_session_are_ended_and_others_in_the_directory_are_not(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen(argv, cwd=tmp_path, start_new_session=True) as left,
        subprocess.Popen(argv, cwd=tmp_path, start_new_session=True) as strangers,
        subprocess.Popen(argv, cwd="/", start_new_session=True) as elsewhere,
    ):
        (tmp_path / FILE).write_text(str(left.pid))
        end_session(tmp_path)
        assert left.wait(10) < 0
        (tmp_path / FILE).write_text(str(elsewhere.pid))  # its number is somebody else's by now
        end_session(tmp_path)
        assert (strangers.poll(), elsewhere.poll()) == (None, None)
        strangers.kill()
        elsewhere.kill()
    assert not (tmp_path / FILE).exists()


def test_output_is_passed_on_as_it_comes_and_errors_quote_its_end(tmp_path: Path) -> None:
    (tmp_path / Output.ERR).write_text("of an earlier call\n")
    output, heard = Output(tmp_path), io.BytesIO()
    (tmp_path / Output.OUT).write_text("Importing\n")
    output.pass_on(heard.write)
    assert heard.getvalue() == b"Importing\n"
    with (tmp_path / Output.ERR).open("a") as file:
        file.write("\n".join(f"line {number}" for number in range(19)) + f"\n{DYING}{TRACE}")
    output.pass_on(heard.write)
    assert heard.getvalue().endswith(f"line 18\n{DYING}{TRACE}".encode())
    assert output.last_words() == ": " + "\n".join([*(f"line {number}" for number in range(12, 19)), DYING])


def test_a_provider_of_vagrant_that_is_not_supported_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match='"libvirt", "lxc" and "openstack" are'):
        ProviderSettings.model_validate({"driver": "vagrant", "vagrant": {"provider": "docker"}})
    with pytest.raises(ValidationError, match="driver vagrant needs a table `openstack`"):
        ProviderSettings.model_validate({"driver": "vagrant", "vagrant": {"provider": "openstack"}})
    assert ProviderSettings(driver="vagrant").vagrant.provider == "lxc"


def test_what_is_said_is_in_a_log_of_the_stage_that_the_run_has_come_to(tmp_path: Path) -> None:
    world = World(str(tmp_path))
    world.project("shop")
    world.push("shop", USUAL)
    world.settle()
    (run,) = world.all_runs()
    logs = BuildLogs(world.books, world.logs, "vagrant")
    before = {log.name for log in world.logs.logs(run.id)}
    for owner in (run.id, "", "run-nobody"):
        with logs.hearing(owner) as say:
            say(b"Importing\n")
    assert {log.name for log in world.logs.logs(run.id)} - before == {"destroy-1.vagrant"}
    assert world.logs.read(run.id, "destroy-1.vagrant", 0, 100) == b"Importing\n"
