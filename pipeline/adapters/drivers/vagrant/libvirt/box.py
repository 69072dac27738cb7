"""The box of a guest: vagrant-libvirt would copy a box's disk; ours is an empty layer above the disk that all share."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

from pipeline.adapters.drivers.vagrant.commands import run
from pipeline.adapters.drivers.vagrant.libvirt.guest import DISK_GIB, Guest

METADATA = {"provider": "libvirt", "format": "qcow2", "virtual_size": DISK_GIB}
#: When the box's disk was changed, as its name as a volume says: always the same.
CHANGED = 1


def name_of(deployment: str, guest: Guest) -> str:
    """A box's name, which becomes that of a volume: another one for another guest, and in each deployment."""
    return f"greenroom-{deployment}-{guest.place.name.replace('@', '-')}"


def volume_of(name: str) -> str:
    """What vagrant-libvirt calls the volume that it copies a box's disk to, unless there is one of that name.

    It always finds one: two at a time fail at it, and a copy that was interrupted would be taken for whole.
    """
    return f"{name}_vagrant_box_image_0_{CHANGED}_box.img"


def pack(file: Path, guest: Guest) -> None:
    """Write a box's file."""
    layer, metadata = file.with_suffix(".img"), file.with_suffix(".json")
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(guest.disk), str(layer)])
    metadata.write_text(json.dumps(METADATA))
    with tarfile.open(file, "w") as archive:
        archive.add(layer, "box.img", filter=_dated)
        archive.add(metadata, "metadata.json")
    layer.unlink()
    metadata.unlink()


def _dated(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.mtime = CHANGED
    return member
