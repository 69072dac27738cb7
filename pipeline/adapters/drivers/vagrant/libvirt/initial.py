"""The initial root of a guest: archives that the kernel unpacks one after the other, the image's and then the node's.

So a node's own files need no disk, no network and no login: the image's first program copies them into the root file
system, once, before anything else starts.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

#: Where the node's files are in the initial root.
SEED = "seed"
#: The disk is /dev/vda. What was seeded is the node's own from then on, also when it restarts.
INIT = f"""\
#!/bin/busybox sh
box=/bin/busybox
$box mount -t proc proc /proc
$box mount -t sysfs sysfs /sys
$box mount -t devtmpfs devtmpfs /dev
for module in /modules/*; do $box insmod "$module"; done
for _ in 1 2 3 4 5 6 7 8 9 10; do
    [ -b /dev/vda ] && break
    $box sleep 0.5
done
$box mount -t ext4 -o noatime /dev/vda /new
if [ ! -e /new/var/lib/greenroom-seeded ]; then
    $box cp -a /{SEED}/. /new/
    : >/new/var/lib/greenroom-seeded
fi
$box umount /sys /proc
$box mount --move /dev /new/dev
exec $box switch_root /new /sbin/init
"""
_MAGIC = "070701"
_TRAILER = "TRAILER!!!"


@dataclass(frozen=True)
class File:
    """A file of an archive, root's, with its permissions."""

    content: bytes
    mode: int = 0o644


def packed(files: Mapping[str, File], private: frozenset[str] = frozenset()) -> bytes:
    """An archive in cpio's format `newc` of files by their paths; directories of `private` are root's alone."""
    directories = {str(one) for name in files for one in PurePosixPath(name).parents if str(one) != "."}
    entries = [(name, stat.S_IFDIR | (0o700 if name in private else 0o755), b"") for name in sorted(directories)]
    entries += [(name, stat.S_IFREG | file.mode, file.content) for name, file in sorted(files.items())]
    return b"".join(_records([*entries, (_TRAILER, 0, b"")]))


def _records(entries: list[tuple[str, int, bytes]]) -> Iterator[bytes]:
    for number, (name, mode, content) in enumerate(entries, 1):
        # The inode, the mode, owner and group, links, time, size, four numbers of devices, the name's length, a sum.
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name.encode()) + 1, 0)
        header = _MAGIC + "".join(f"{field:08x}" for field in fields)
        yield _aligned(header.encode() + name.encode() + b"\0")
        yield _aligned(content)


def of_image(busybox: bytes, modules: Mapping[str, bytes]) -> bytes:
    """The image's part: `modules` are the kernel's, whose names are in the order in which they are to be loaded."""
    files = {
        "init": File(INIT.encode(), 0o755),
        "bin/busybox": File(busybox, 0o755),
        **{f"modules/{name}": File(content) for name, content in modules.items()},
        **{f"{place}/.keep": File(b"") for place in ("dev", "new", "proc", "sys")},
    }
    return _aligned(gzip.compress(packed(files), 6, mtime=0))


def _aligned(content: bytes) -> bytes:
    """Each part begins at a multiple of four bytes."""
    return content + b"\0" * (-len(content) % 4)
