"""What the vagrant driver decides for libvirt without it: archives, seeds, limits, boxes, machines, finds."""

from __future__ import annotations

import gzip
import ipaddress
import json
import stat
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from pipeline.adapters.drivers.vagrant import commands, network
from pipeline.adapters.drivers.vagrant.libvirt import box, domains, guest, provider
from pipeline.adapters.drivers.vagrant.libvirt.domains import Domain, Domains
from pipeline.adapters.drivers.vagrant.libvirt.guest import Guest, guests
from pipeline.adapters.drivers.vagrant.libvirt.initial import File, of_image, packed
from pipeline.adapters.drivers.vagrant.libvirt.limits import limits
from pipeline.adapters.drivers.vagrant.libvirt.provider import Here, Libvirt
from pipeline.adapters.drivers.vagrant.libvirt.seed import seed
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import Found
from pipeline.adapters.drivers.vagrant.seed import files, hosts
from pipeline.bootstrap import Application
from pipeline.domain.errors import CapacityError, PermanentError, TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from pipeline.settings import ProviderSettings, Settings, VagrantSettings

SMALL = Resources(vcpu=1.5, memory_mib=1024, disk_gib=5)
BOUND = QosProfile(disk_write_iops=100, network_in=8 * 10**6)
NODE = NodeRequest("web-0", "web", "debian-12", SMALL, BOUND, Secret("private"), "ssh-ed25519 AAAA")
REQUEST = EnvironmentRequest("ours", "env-1", "shop", "login", 99.0, (NODE,), login_keys=("another",))
#: What `virsh list --all --title` shows.
LISTED = """\
 1   greenroom.ours.env-1.web-0     running    10.213.7.10
 -   greenroom.ours.env-1.web-1     shut off   10.213.7.11
 2   greenroom.theirs.env-9.web-0   running    10.213.9.10
 3   web-0                          in shutdown
"""


def unpacked(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """Mode and content by path, as the kernel reads cpio's format `newc`; parents come before what is in them."""
    found: dict[str, tuple[int, bytes]] = {}
    offset = 0
    while True:
        assert archive[offset : offset + 6] == b"070701"
        fields = [int(archive[start : start + 8], 16) for start in range(offset + 6, offset + 110, 8)]
        mode, owner, group, size, length = fields[1], fields[2], fields[3], fields[6], fields[11]
        name = archive[offset + 110 : offset + 110 + length - 1].decode()
        begin = offset + 110 + length + -(110 + length) % 4
        if name == "TRAILER!!!":
            return found
        assert (owner, group) == (0, 0)
        parent = name.rpartition("/")[0]
        assert not parent or parent in found
        found[name] = (mode, archive[begin : begin + size])
        offset = begin + size + -size % 4


def test_an_archive_holds_directories_and_files_with_their_permissions() -> None:
    archive = packed({"a/b/c": File(b"12345", 0o600), "d": File(b"")}, frozenset({"a/b"}))
    assert unpacked(archive) == {
        "a": (stat.S_IFDIR | 0o755, b""),
        "a/b": (stat.S_IFDIR | 0o700, b""),
        "a/b/c": (stat.S_IFREG | 0o600, b"12345"),
        "d": (stat.S_IFREG | 0o644, b""),
    }
    assert len(archive) % 4 == 0


def test_the_images_initial_root_has_what_finds_the_disk_and_another_part_may_follow() -> None:
    root = of_image(b"box", {"00-first.ko": b"1", "01-second.ko": b"2"})
    assert len(root) % 4 == 0
    found = unpacked(gzip.decompress(root))
    assert found["init"][0] == found["bin/busybox"][0] == stat.S_IFREG | 0o755
    assert [name for name in found if name.startswith("modules/")] == ["modules/00-first.ko", "modules/01-second.ko"]
    assert {"dev", "new", "proc", "sys"} <= found.keys()


def test_a_seed_brings_keys_names_and_the_interface() -> None:
    told = files(NODE, hosts({"web-0": "10.213.7.10"}), ["login"])
    found = unpacked(seed(told, "10.213.7.10", "00:16:3e:d5:07:0a"))
    assert found["seed/etc/ssh/ssh_host_ed25519_key"] == (stat.S_IFREG | 0o600, b"private\n")
    assert found["seed/root/.ssh/authorized_keys"] == (stat.S_IFREG | 0o600, b"login\n")
    assert found["seed/root"][0] == found["seed/root/.ssh"][0] == stat.S_IFDIR | 0o700
    assert found["seed/etc"][0] == stat.S_IFDIR | 0o755
    said = found["seed/etc/systemd/network/10-node.network"][1].decode()
    assert all(line in said for line in ("MACAddress=00:16:3e:d5:07:0a", "Address=10.213.7.10/24", "10.213.7.1\n"))


def test_promises_are_said_in_libvirts_words() -> None:
    assert limits(QosProfile()) == {}
    assert limits(QosProfile(disk_read_bytes=5, disk_write_iops=7)) == {
        "disk": ("iotune", {"read_bytes_sec": 5, "write_iops_sec": 7})
    }
    assert limits(QosProfile(network_in=8 * 10**6, network_out=1)) == {
        "interface": ("bandwidth", {"inbound": {"average": "1000"}, "outbound": {"average": "1"}})
    }


def test_domains_and_files_of_the_deployment_are_found_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(domains, "run", lambda _: LISTED)
    for name in ("greenroom.ours.env-1.web-1.img", "greenroom.ours.env-2.db-0.initrd", "greenroom-ours-box.img", "x"):
        (tmp_path / name).touch()
    assert Domains("ours", "qemu:///system", tmp_path).found() == {
        ("env-1", "web-0"): Domain(running=True, address="10.213.7.10"),
        ("env-1", "web-1"): Domain(running=False, address="10.213.7.11"),
        ("env-2", "db-0"): Domain(running=False),
    }


def test_a_domain_has_always_the_same_id() -> None:
    ours, theirs = (Domains(name, "qemu:///system", Path("/nowhere")) for name in ("ours", "theirs"))
    assert len({ours.id("env-1", "web-0"), ours.id("env-1", "web-1"), theirs.id("env-1", "web-0")}) == 3


def test_a_box_is_an_empty_layer_and_its_volume_is_known_before(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def layer(argv: Sequence[str]) -> str:
        assert argv[-2] == "/guests/debian-12@abc/disk.img"
        Path(argv[-1]).write_bytes(b"layer")
        return ""

    monkeypatch.setattr(box, "run", layer)
    made = Guest("debian-12", Path("/guests/debian-12@abc"))
    box.pack(tmp_path / "debian-12.box", made)
    with tarfile.open(tmp_path / "debian-12.box") as archive:
        metadata = archive.extractfile("metadata.json")
        assert metadata is not None
        assert json.load(metadata) == {"provider": "libvirt", "format": "qcow2", "virtual_size": guest.DISK_GIB}
        assert archive.getmember("box.img").mtime == 1
    assert [file.name for file in tmp_path.iterdir()] == ["debian-12.box"]
    assert box.volume_of(box.name_of("ours", made)) == "greenroom-ours-debian-12-abc_vagrant_box_image_0_1_box.img"


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """With a guest."""
    place = tmp_path / "state/guests/debian-12@abc"
    place.mkdir(parents=True)
    (place / "initrd").write_bytes(b"root")
    place.with_name("debian-12").symlink_to(place.name)
    return Here("qemu:///system", tmp_path / "state", ipaddress.IPv4Network("10.213.0.0/16"), emulate=True)


def test_guests_are_found_by_name(here: Here) -> None:
    assert {name: one.place.name for name, one in guests(here.state).items()} == {"debian-12": "debian-12@abc"}
    assert guests(here.state / "nowhere") == {}


@pytest.fixture
def commanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Sequence[str]]:
    """Commands that were called, none of which does anything."""
    called: list[Sequence[str]] = []

    def call(argv: Sequence[str], text: str = "") -> str:
        called.append([*argv, text])
        return "[]" if "-json" in argv else ""

    for module in (network, domains):
        monkeypatch.setattr(module, "run", call)
    monkeypatch.setattr(box, "pack", lambda file, _: file.touch())
    monkeypatch.setattr(commands, "LOCK", tmp_path / "lock")
    return called


def test_a_machine_is_asked_for_by_all_that_it_is_to_be(
    here: Here, commanded: list[Sequence[str]], tmp_path: Path
) -> None:
    place, boxes = Place(tmp_path / "env-1", "libvirt"), list[str]()
    place.path.mkdir()
    libvirt = Libvirt("ours", here, lambda _, name, __: boxes.append(name))
    wanted = libvirt.prepare(place, REQUEST, REQUEST.nodes, [])["web-0"]
    assert [wanted["box"]] == boxes == ["greenroom-ours-debian-12-abc"]
    said = wanted["settings"]
    assert said["title"].endswith(".10")
    assert (said["cpus"], said["memory"], said["machine_virtual_size"]) == (2, 1024, 5)
    assert (said["driver"], said["default_prefix"]) == ("qemu", "greenroom.ours.env-1.")
    assert wanted["limits"] == {
        "disk": ("iotune", {"write_iops_sec": 100}),
        "interface": ("bandwidth", {"inbound": {"average": "1000"}}),
    }
    initial = Path(said["initrd"])
    assert initial.name == "greenroom.ours.env-1.web-0.initrd"
    assert stat.S_IMODE(initial.stat().st_mode) == 0o600
    found = unpacked(initial.read_bytes().removeprefix(b"root"))
    assert found["seed/root/.ssh/authorized_keys"][1] == b"login\nanother\n"
    created = next(argv for argv in commanded if "vol-create" in argv)
    assert "debian-12@abc/disk.img" in created[-1]
    assert not any("private" in word for argv in commanded for word in argv)


def test_a_machine_that_is_only_to_be_removed_needs_little(here: Here) -> None:
    known = Libvirt("ours", here, lambda *_: None).known(Found("env-1", "web-0", "id", running=True))
    assert known["settings"].keys() == {"uri", "storage_pool_name", "default_prefix", "uuid"}
    assert "bridge" not in known


def test_what_this_machine_cannot_have_is_refused(here: Here) -> None:
    libvirt = Libvirt("ours", here, lambda *_: None)
    much = NodeRequest("web-0", "web", "debian-12", Resources(1, 1 << 24, 1), BOUND, Secret(""), "")
    with pytest.raises(CapacityError, match="MiB free"):
        libvirt.admit(REQUEST, [much])
    other = NodeRequest("web-0", "web", "debian-13", SMALL, BOUND, Secret(""), "")
    with pytest.raises(PermanentError, match=r"no image 'debian-13'; there are: debian-12"):
        libvirt.admit(REQUEST, [other])


def test_without_guest_the_remedy_is_told(tmp_path: Path) -> None:
    here = Here("qemu:///system", tmp_path, ipaddress.IPv4Network("10.213.0.0/16"), emulate=True)
    assert any("scripts/setup vagrant-libvirt" in one for one in Libvirt("ours", here, lambda *_: None).missing())


def test_a_libvirt_that_does_not_answer_is_told(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(argv: Sequence[str]) -> str:
        raise TransientError(f"{argv[0]}: no such socket")

    monkeypatch.setattr(domains, "run", silent)
    monkeypatch.setattr(provider, "lacking", lambda *_: [])
    told = Libvirt("ours", here, lambda *_: None).missing()
    assert any(one.startswith("libvirt does not answer at qemu:///system") and "no such socket" in one for one in told)


def test_the_settings_choose_libvirt(commanded: list[Sequence[str]], tmp_path: Path) -> None:
    said = ProviderSettings(driver="vagrant", vagrant=VagrantSettings(provider="libvirt", uri="qemu:///other"))
    choice = Application(Settings(home=tmp_path, helper_state=tmp_path))._vagrants_provider(said)
    assert choice is not None
    assert choice(lambda *_: None).found() == []
    assert ["virsh", "--quiet", "--connect", "qemu:///other"] in [list(argv[:4]) for argv in commanded]


def test_the_key_of_a_guest_follows_what_it_is_made_of(monkeypatch: pytest.MonkeyPatch) -> None:
    before = guest.key()
    monkeypatch.setattr(guest, "PACKAGES", (*guest.PACKAGES, "more"))
    assert guest.key() != before


@pytest.fixture
def built(tmp_path: Path) -> Path:
    """A state with a guest of today and two older ones."""
    for key in ("now", "used", "old"):
        place = tmp_path / f"guests/debian-12@{key}"
        place.mkdir(parents=True)
        (place / "disk.img").touch()
    return tmp_path


def dropped(state: Path) -> list[str]:
    """The keys of the guests that went."""
    guest._drop_unused(state, state / "guests/debian-12@now")
    return [key for key in ("now", "used", "old") if not (state / f"guests/debian-12@{key}").exists()]


def test_an_older_guest_stays_while_its_disk_is_open(built: Path) -> None:
    with (built / "guests/debian-12@used/disk.img").open():
        assert dropped(built) == ["old"]
    assert dropped(built) == ["used", "old"]


def layers(state: Path, monkeypatch: pytest.MonkeyPatch, told: Mapping[str, Mapping[str, object]]) -> None:
    """Storage pools of two deployments have these layers, of which `qemu-img info` tells."""
    for name in told:
        layer = state / "libvirt" / name
        layer.parent.mkdir(parents=True, exist_ok=True)
        layer.touch()

    def call(argv: Sequence[str]) -> str:
        assert list(argv[:4]) == ["qemu-img", "info", "--force-share", "--output=json"]
        return json.dumps(told[str(Path(argv[4]).relative_to(state / "libvirt"))])

    monkeypatch.setattr(domains, "run", call)


def test_an_older_guest_stays_while_a_layer_lies_above_it_though_no_domain_runs(
    built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, used = built / "libvirt/ours/box.img", built / "guests/debian-12@used/disk.img"
    told: dict[str, Mapping[str, object]] = {
        "ours/web-0.img": {"full-backing-filename": str(box)},
        "ours/box.img": {"full-backing-filename": str(used)},
        "theirs/box.img": {"full-backing-filename": str(built / "guests/debian-12@now/disk.img")},
        "theirs/empty.img": {},
    }
    layers(built, monkeypatch, told)
    assert dropped(built) == ["old"]
    for name in ("web-0.img", "box.img"):
        (built / "libvirt/ours" / name).unlink()
    assert dropped(built) == ["used", "old"]


def test_no_guest_goes_while_a_layer_cannot_be_read(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers(built, monkeypatch, {"ours/web-0.img": {}})

    def failing(argv: Sequence[str]) -> str:
        raise TransientError(f"{argv[-1]} could not be opened")

    monkeypatch.setattr(domains, "run", failing)
    with pytest.raises(TransientError, match=r"web-0\.img could not be opened"):
        dropped(built)
    assert len(list((built / "guests").iterdir())) == 3


def test_a_layer_that_goes_meanwhile_is_no_hindrance(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layers(built, monkeypatch, {"ours/web-0.img": {}})

    def gone(argv: Sequence[str]) -> str:
        Path(argv[-1]).unlink()
        raise TransientError(f"{argv[-1]} could not be opened")

    monkeypatch.setattr(domains, "run", gone)
    assert dropped(built) == ["used", "old"]
