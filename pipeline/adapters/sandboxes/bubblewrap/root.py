"""The root directory that a sandbox sees."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

#: The user in the sandbox; outside it is the worker's own user without any privilege.
USER_ID = 1000

_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
#: Parts of /etc that programs need to start; none of them is particular to this machine.
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives")

#: What stands in for this machine's own files.
ETC_FILES: Mapping[str, str] = {
    "/etc/passwd": f"tester:x:{USER_ID}:{USER_ID}:tester:/tmp:/bin/sh\n",
    "/etc/group": f"tester:x:{USER_ID}:\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n",
}


def system() -> Iterator[str]:
    """Arguments for the programs and libraries of this machine, read-only."""
    yield from ("--ro-bind", "/usr", "/usr")
    for name in _SYSTEM:
        path = Path("/") / name
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.is_dir():
            yield from ("--ro-bind", str(path), str(path))
    for name in _ETC:
        yield from ("--ro-bind-try", f"/etc/{name}", f"/etc/{name}")


def own(tmpfs_bytes: int, *, sized: bool) -> Iterator[str]:
    """Arguments for directories of the sandbox's own; their content counts as memory."""
    size = ("--size", str(tmpfs_bytes)) if sized else ()
    yield from ("--proc", "/proc", "--dev", "/dev", *size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev")  # noqa: S108  # a path in the sandbox
    yield from (*size, "--tmpfs", "/tmp")  # noqa: S108  # a path in the sandbox


def bound(read_only: Mapping[str, str], writable: Mapping[str, str]) -> Iterator[str]:
    """Arguments for the directories and files that a command brings, outer ones first."""
    binds = [(path, source, "--ro-bind") for path, source in read_only.items()]
    binds += [(path, source, "--bind") for path, source in writable.items()]
    for path, source, how in sorted(binds):
        yield from (how, os.fspath(source), path)
