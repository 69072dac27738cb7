"""What a local node is described as, before anything is made: limits, addresses, links, images."""

from __future__ import annotations

import ipaddress
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.drivers.local import cgroups, network, oci, process
from pipeline.adapters.drivers.local.environments import addresses, unknown_image
from pipeline.adapters.drivers.local.image import RECIPES, SHIFT, Image, Recipe
from pipeline.adapters.drivers.local.network import Network
from pipeline.adapters.drivers.local.node import hosts
from pipeline.adapters.drivers.local.process import Commands
from pipeline.adapters.drivers.local.protocol import Refused
from pipeline.adapters.drivers.local.records import EnvironmentRecord, NodeRecord, Records
from pipeline.clients.sshd import without_greetings
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources

SHAPE = oci.NodeShape(
    hostname="web-0",
    cgroup="greenroom-ours/e.web-0",
    rootfs="/state/rootfs",
    systemd=False,
    resources=Resources(vcpu=0.5, memory_mib=256, disk_gib=2),
    qos=QosProfile(),
    device="254:0",
    swap=True,
    open_files=20_000,
)
HOME = EnvironmentRecord("ours", "e", 1.0, "10.211.7", "grabc", {"web-0": 10, "db-0": 11}, boot="b")


def test_resources_become_limits() -> None:
    assert oci.config(SHAPE)["linux"]["resources"] == {
        "memory": {"limit": 256 << 20, "swap": 256 << 20},
        "cpu": {"quota": 50_000, "period": 100_000, "shares": 512},
        "pids": {"limit": 512},
    }


def test_swap_is_left_alone_where_it_cannot_be_limited() -> None:
    limits = oci.config(replace(SHAPE, swap=False))["linux"]["resources"]
    assert limits["memory"] == {"limit": 256 << 20}


def test_disk_promises_become_throttles() -> None:
    qos = QosProfile(disk_write_iops=100, disk_read_bytes=5_000_000)
    assert oci.config(replace(SHAPE, qos=qos))["linux"]["resources"]["blockIO"] == {
        "throttleWriteIOPSDevice": [{"major": 254, "minor": 0, "rate": 100}],
        "throttleReadBpsDevice": [{"major": 254, "minor": 0, "rate": 5_000_000}],
    }
    assert oci.disk_limited(qos)
    assert not oci.disk_limited(QosProfile(network_in=1))


@pytest.mark.parametrize(
    ("qos_class", "shares", "score"),
    [(QosClass.GUARANTEED, 1024, 0), (QosClass.BURSTABLE, 512, 100), (QosClass.BEST_EFFORT, 32, 500)],
)
def test_a_firmer_promise_weighs_more(qos_class: QosClass, shares: int, score: int) -> None:
    config = oci.config(replace(SHAPE, qos=QosProfile(qos_class)))
    assert config["linux"]["resources"]["cpu"]["shares"] == shares
    assert config["process"]["oomScoreAdj"] == score


@pytest.mark.parametrize(("vcpu", "told", "shares"), [(0.5, 300, 150), (0.01, 2, 2), (64, 16384, 262_144)])
def test_shares_that_were_promised_go_before_those_of_the_class(vcpu: float, told: int, shares: int) -> None:
    shape = replace(SHAPE, resources=replace(SHAPE.resources, vcpu=vcpu), qos=QosProfile(cpu_shares=told))
    assert oci.config(shape)["linux"]["resources"]["cpu"]["shares"] == shares


@pytest.mark.parametrize("systemd", [False, True])
def test_every_node_has_its_own_users_and_namespaces(systemd: bool) -> None:
    linux = oci.config(replace(SHAPE, systemd=systemd))["linux"]
    kinds = {namespace["type"] for namespace in linux["namespaces"]}
    assert kinds >= {"pid", "ipc", "uts", "mount", "network", "user"}
    assert all("path" not in namespace for namespace in linux["namespaces"])
    assert linux["uidMappings"] == linux["gidMappings"] == [{"containerID": 0, "hostID": SHIFT, "size": 65536}]


def test_systemd_gets_what_it_needs() -> None:
    config = oci.config(replace(SHAPE, systemd=True))
    assert config["process"]["args"] == ["/sbin/init"]
    assert {"type": "cgroup"} in config["linux"]["namespaces"]
    assert "/sys/fs/cgroup" in {mount["destination"] for mount in config["mounts"]}
    assert "CAP_SYS_ADMIN" in config["process"]["capabilities"]["bounding"]
    assert "CAP_SYS_ADMIN" not in oci.config(SHAPE)["process"]["capabilities"]["bounding"]


def test_a_large_node_may_have_more_processes() -> None:
    assert oci.pids_limit(Resources(1, 128, 1)) == 512
    assert oci.pids_limit(Resources(4, 8192, 1)) == 8192


def test_a_name_keeps_its_address() -> None:
    known = addresses({}, ["web-0", "web-1"])
    assert known == {"web-0": 10, "web-1": 11}
    assert addresses(known, ["db-0", "web-1"]) == {"web-0": 10, "web-1": 11, "db-0": 12}


def test_a_network_can_be_full() -> None:
    full = addresses({}, [f"web-{i}" for i in range(245)])
    assert max(full.values()) == 254
    with pytest.raises(Refused, match="at most 245 nodes"):
        addresses(full, ["one-more"])


def test_hosts_names_every_node() -> None:
    assert "10.211.7.10 web-0\n10.211.7.11 db-0\n" in hosts(HOME)
    assert hosts(HOME).startswith("127.0.0.1 localhost\n")


def test_links_have_names_the_kernel_takes_and_a_deployment_can_tell() -> None:
    ours, theirs = (Network(Commands(d), d, ipaddress.IPv4Network("10.211.0.0/16")) for d in ("ours", "theirs" * 9))
    assert len(theirs.new_link()) <= 15
    assert ours.new_link() != ours.new_link()
    assert ours.new_link().startswith(ours.prefix)
    assert not theirs.new_link().startswith(ours.prefix)


def test_a_port_is_limited_in_both_directions() -> None:
    both = network._limits(10, QosProfile(network_in=100_000_000, network_out=20_000_000))
    assert both.splitlines() == [
        "qdisc add dev v10 root tbf rate 100000000bit burst 65536 latency 50ms",
        "qdisc add dev v10 handle ffff: ingress",
        "filter add dev v10 parent ffff: protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev ifb10",
        "qdisc add dev ifb10 root tbf rate 20000000bit burst 65536 latency 50ms",
    ]
    assert network._limits(10, QosProfile()) == ""


def test_a_fast_port_has_room_for_a_tick_of_traffic() -> None:
    assert "burst 5000000" in network._bucket(10_000_000_000)


def test_routes_are_read_as_the_kernel_writes_them() -> None:
    fields = ["grabc", "0007D30A", "00000000", "0001", "0", "0", "0", "00FFFFFF", "0", "0", "0"]
    assert network._destination(fields) == ipaddress.IPv4Network("10.211.7.0/24")


def test_the_same_address_has_the_same_hardware_address() -> None:
    assert network._mac("10.211.7", 10) == "02:67:0a:d3:07:0a"


def test_an_image_is_known_by_what_goes_into_it() -> None:
    plain = RECIPES["debian-12"]
    variants = [plain, replace(plain, packages=("fio",)), replace(plain, debs=("ab",)), RECIPES["debian-12-systemd"]]
    assert len({recipe.key for recipe in variants}) == 4
    assert Recipe("debian-12").key == plain.key
    assert "fio" in variants[1].included
    assert "systemd-sysv" in variants[3].included


def test_logins_greet_nobody() -> None:
    pam = "session optional pam_motd.so noupdate\nsession required pam_env.so\nsession optional pam_mail.so # [1]\n"
    assert without_greetings(pam) == "session required pam_env.so\n"


def test_an_unknown_image_says_what_there_is() -> None:
    there = {"debian-12": Image("debian-12", "k", Path("/x"), systemd=False)}
    assert unknown_image("debian-13", there) == "there is no image debian-13 on this machine; there are: debian-12"
    assert "make setup" in unknown_image("debian-12", {})


def test_records_are_replaced_whole_and_odd_ones_are_none(tmp_path: Path) -> None:
    records = Records(tmp_path, "ours")
    place = records.node_place("e", "web-0")
    place.mkdir(parents=True)
    assert records.node("e", "web-0") is None
    for content in ("", "{", "[]", '{"name": "web-0"}', '{"unknown": 1}'):
        (place / "node.json").write_text(content)
        assert records.node("e", "web-0") is None
        assert records.nodes() == []
    assert records.node_names("e") == ["web-0"]
    assert records.environment("e") is None


def test_a_record_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.chown", lambda *_: None)  # only root may give things away
    records = Records(tmp_path, "ours")
    node = NodeRecord(
        "ours", "e", "web-0", 1.0, "web", "debian-12", 256, "10.211.7.10", throttled=False, pid=7, boot="b"
    )
    records.save_environment(HOME)
    records.save_node(node)
    assert records.environment("e") == HOME
    assert records.node("e", "web-0") == node
    assert records.nodes() == [node]
    assert records.environment_ids() == ["e"]


def test_a_process_is_known_by_its_start() -> None:
    assert process.start_time(1) == process.start_time(1)
    assert process.start_time(1) is not None
    assert process.start_time(2**22 + 1) is None


def test_last_lines_fit_on_one(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    assert process.last_lines(log) == ""
    log.write_bytes(b"x" * 1000 + b"\nsshd: no hostkeys\n\xff\n")
    assert process.last_lines(log, 25).startswith("xx")
    assert process.last_lines(log, 25).endswith("| sshd: no hostkeys | \N{REPLACEMENT CHARACTER}")


def test_groups_have_one_name_in_every_hierarchy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = tuple(tmp_path / name for name in ("cpu", "memory", "unified"))
    monkeypatch.setattr(cgroups, "hierarchies", lambda: roots)
    for root in roots[:2]:
        (root / "greenroom-ours" / "e.web-0").mkdir(parents=True)
    assert cgroups.places(cgroups.group("ours", "e", "web-0")) == [r / "greenroom-ours" / "e.web-0" for r in roots[:2]]
    assert cgroups.members("ours") == {("e", "web-0")}
    assert cgroups.members("theirs") == set()


def test_processes_are_found_in_groups_below_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cgroups, "hierarchies", lambda: (tmp_path,))
    below = tmp_path / "greenroom-ours" / "e.web-0" / "system.slice"
    below.mkdir(parents=True)
    (below.parent / "cgroup.procs").write_text("7\n8\n")
    (below / "cgroup.procs").write_text("9\n")
    assert cgroups.pids(cgroups.group("ours", "e", "web-0")) == {7, 8, 9}


def test_throttles_are_lifted_in_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = (tmp_path / "blkio", tmp_path / "unified")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: roots)
    for root in roots:
        (root / "g").mkdir(parents=True)
    (roots[0] / "g" / "blkio.throttle.write_iops_device").write_text("254:0 100")
    (roots[1] / "g" / "io.max").write_text("254:0 wiops=100")
    cgroups.lift_throttles("g", "254:0")
    assert (roots[0] / "g" / "blkio.throttle.write_iops_device").read_text() == "254:0 0"
    assert (roots[1] / "g" / "io.max").read_text() == "254:0 rbps=max wbps=max riops=max wiops=max"
    assert sorted(file.name for file in (roots[0] / "g").iterdir()) == ["blkio.throttle.write_iops_device"]


def test_a_boot_weighs_little_and_a_booted_node_what_it_was_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = {"1/cpu.shares": "2048\n", "2/cpu.weight": "79\n", "2/io.weight": "default 100\n"}
    files = {tmp_path / name.replace("/", "/g/"): weight for name, weight in usual.items()}
    for file, weight in files.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(weight)
    monkeypatch.setattr(cgroups, "hierarchies", lambda: (tmp_path / "1", tmp_path / "2", tmp_path / "none"))
    with cgroups.held_down("g"):
        assert [file.read_text() for file in files] == ["32", "2", "default 10"]
    assert [file.read_text() for file in files] == [weight.strip() for weight in files.values()]
    with pytest.raises(RuntimeError), cgroups.held_down("g"):
        raise RuntimeError("the boot failed")
    assert [file.read_text() for file in files] == [weight.strip() for weight in files.values()]


def test_a_group_that_goes_while_it_is_held_down_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g/cpu.shares").write_text("512")
    monkeypatch.setattr(cgroups, "hierarchies", lambda: (tmp_path,))
    with cgroups.held_down("g"):
        shutil.rmtree(tmp_path / "g")
    assert not (tmp_path / "g").exists()
