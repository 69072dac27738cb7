"""Guests: a kernel, its initial root and a disk of Debian, made once by mmdebstrap and shared by all nodes.

`STATE/guests/NAME` is a link to `NAME@KEY`, where KEY is the digest of what the guest is made of: a changed one is
built beside the old one, which stays as long as a layer of a disk lies above it.

    python -m pipeline.adapters.drivers.vagrant.libvirt.guest --state /var/lib/greenroom
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.drivers.vagrant.commands import run
from pipeline.adapters.drivers.vagrant.libvirt import initial
from pipeline.adapters.drivers.vagrant.libvirt.domains import disks_below
from pipeline.adapters.drivers.vagrant.locks import locked
from pipeline.clients import sshd
from pipeline.domain.errors import GreenroomError, TransientError

NAME = "debian-12"
RELEASE = "bookworm"
PACKAGES = (
    "busybox-static", "ca-certificates", "curl", "dbus", "iproute2", "kmod", "linux-image-cloud-amd64",
    "openssh-server", "procps", "python3", "sudo", "systemd-sysv", "udev",
)  # fmt: skip
#: In the order in which they find the disk; the rest of the hardware is found by the image's own udev.
MODULES = ("virtio_pci", "virtio_blk", "ext4", "virtio_net", "virtio_rng")
#: Nobody looks at its console, nothing is to change in it by itself, and where processors are emulated each unit costs
#: a second.
MASKED = (
    "apt-daily-upgrade.timer", "apt-daily.timer", "dev-hugepages.mount", "dev-mqueue.mount", "dpkg-db-backup.timer",
    "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer", "getty.target", "modprobe@.service",
    "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount", "sys-kernel-config.mount",
    "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service", "systemd-logind.service",
    "systemd-network-generator.service", "systemd-networkd-wait-online.service", "systemd-pstore.service",
    "systemd-timesyncd.service",
)  # fmt: skip
#: It grows to the size of the node's disk as it is mounted.
FSTAB = "/dev/vda / ext4 noatime,x-systemd.growfs 0 0\n"
DISK_GIB = 2
#: A build takes minutes where others need the processor.
BUILD_S = 1800.0
_EXCLUDED = ("doc", "man", "locale", "info")


@dataclass(frozen=True)
class Guest:
    """What a node starts from; `place` has the files."""

    name: str
    place: Path

    @property
    def kernel(self) -> Path:
        return self.place / "vmlinuz"

    @property
    def initial_root(self) -> Path:
        return self.place / "initrd"

    @property
    def disk(self) -> Path:
        """A raw ext4 file system of `DISK_GIB`, without partitions."""
        return self.place / "disk.img"


def guests(state: Path) -> Mapping[str, Guest]:
    """Those that were built, by name."""
    links = (link for link in sorted((state / "guests").glob("[a-z0-9]*")) if link.is_symlink())
    return {link.name: Guest(link.name, link.resolve()) for link in links}


def key() -> str:
    """The digest of what a guest is made of."""
    made_of = [PACKAGES, MODULES, MASKED, FSTAB, DISK_GIB, RELEASE, initial.INIT, sshd.SSHD_CONFIG, sshd.GREETINGS]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def ensure(state: Path) -> Guest:
    """Build the guest unless it is there; TransientError when that fails."""
    for directory in (state, state / "guests"):
        directory.mkdir(mode=0o711, parents=True, exist_ok=True)
    with locked(state / "locks/guest"):
        final = state / "guests" / f"{NAME}@{key()}"
        if not final.exists():
            _build(state / "guests/.building").rename(final)
        _link(state / "guests" / NAME, final)
        _drop_unused(state, final)
    return guests(state)[NAME]


def _build(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(mode=0o711)
    root = place / "root"
    _bootstrap(root)
    _adapt(root)
    guest = Guest(NAME, place)
    shutil.copyfile(next((root / "boot").glob("vmlinuz-*")), guest.kernel)
    guest.initial_root.write_bytes(initial.of_image((root / "bin/busybox").read_bytes(), _modules(root)))
    with guest.disk.open("wb") as disk:
        disk.truncate(DISK_GIB << 30)
    run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0", "-d", str(root), str(guest.disk)], limit_s=BUILD_S)
    shutil.rmtree(root)
    return place


def _bootstrap(root: Path) -> None:
    argv = [
        "ionice", "-c3", "nice", "-n19",  # neighbours keep their disk and processor meanwhile
        "mmdebstrap", "--variant=minbase", "--mode=root", "--format=directory", "--include=" + ",".join(PACKAGES),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in _EXCLUDED), RELEASE, str(root),
    ]  # fmt: skip
    # Debian's own initial root takes a minute to build and has no use here.
    done = subprocess.run(
        argv, env={**os.environ, "INITRD": "No"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        timeout=BUILD_S,
    )  # fmt: skip
    if done.returncode:
        tail = "\n".join(done.stderr.splitlines()[-15:])
        raise TransientError(f"mmdebstrap could not build the guest; is the package mirror reachable?\n{tail}")


def _adapt(root: Path) -> None:
    sshd.set_up(root)
    (root / "etc/machine-id").write_text("")
    (root / "etc/fstab").write_text(FSTAB)
    (root / "etc/resolv.conf").write_text("")
    (root / "etc/hostname").unlink(missing_ok=True)
    run(["chroot", str(root), "systemctl", "enable", "systemd-networkd.service"])
    run(["chroot", str(root), "systemctl", "mask", *MASKED])


def _modules(root: Path) -> dict[str, bytes]:
    """The modules and what they need, numbered as they are to be loaded."""
    (version,) = (path.name for path in (root / "lib/modules").iterdir())
    argv = ["chroot", str(root), "modprobe", "--set-version", version, "--all", "--show-depends", *MODULES]
    files = dict.fromkeys(re.findall(r"^insmod (\S+)", run(argv), re.MULTILINE))
    return {f"{number:02}-{Path(file).name}": (root / file[1:]).read_bytes() for number, file in enumerate(files)}


def _link(link: Path, final: Path) -> None:
    fresh = link.with_name(".link")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(final.name)
    fresh.rename(link)


def _drop_unused(state: Path, current: Path) -> None:
    """Remove older ones; those stay that a layer lies above, or whose disk a process has open.

    A node that is shut off has nothing open, and layers of another state's storage pools are not known here.
    """
    older = [place for place in current.parent.resolve().glob(f"{NAME}@*") if place.name != current.name]
    if not older:
        return
    used = {*_open_files(), *disks_below(state)}
    for old in older:
        if Guest(NAME, old).disk not in used:
            shutil.rmtree(old)


def _open_files() -> Iterable[Path]:
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        with suppress(OSError):  # it was closed meanwhile
            yield descriptor.readlink()


def main(argv: Sequence[str] | None = None) -> int:
    """Build the guest when it is missing; progress goes to standard error."""
    parser = argparse.ArgumentParser(prog="greenroom-guest", description="Build the guest of vagrant-libvirt.")
    parser.add_argument("--state", type=Path, required=True)
    options = parser.parse_args(argv)
    try:
        guest = ensure(options.state.resolve())
    except GreenroomError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"guest {guest.name} is ready ({guest.place.name})\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
