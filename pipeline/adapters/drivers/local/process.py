"""Commands and processes of the machine: lists of arguments, never a shell."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from pipeline.adapters.drivers.local.protocol import Refused

#: Marks the helper's own commands, so that its successor finds those that outlived it; nodes do not inherit it.
MARK = "GREENROOM_HELPER"
COMMAND_TIMEOUT_S = 60
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class Commands:
    """Runs programs, each marked with the deployment that started it."""

    def __init__(self, deployment: str) -> None:
        self._env = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C",
            "GOMAXPROCS": "2",
            MARK: deployment,
        }

    def run(self, argv: Sequence[str], *, text: str | None = None) -> str:
        """Run to the end with `text` as input; its output. Refused with `transient` when it fails."""
        try:
            done = subprocess.run(
                argv, input=text or "", capture_output=True, text=True, env=self._env, timeout=COMMAND_TIMEOUT_S,
                check=False, cwd="/",
            )  # fmt: skip
        except FileNotFoundError as error:
            raise Refused("permanent", f"program {argv[0]} is missing on this machine: run make setup") from error
        except subprocess.TimeoutExpired as error:
            raise Refused("transient", f"{argv[0]} did not end within {COMMAND_TIMEOUT_S} s") from error
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-500:]
            raise Refused("transient", f"{' '.join(argv[:4])} failed ({done.returncode}): {said}")
        return done.stdout

    def run_detached(self, argv: Sequence[str], output: Path) -> None:
        """Run a program whose children live on: they get a file as output, never a pipe of ours."""
        with output.open("ab") as sink:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env=self._env, timeout=COMMAND_TIMEOUT_S,
                check=False, cwd="/",
            )  # fmt: skip
        if done.returncode:
            raise Refused("transient", f"{argv[0]} failed ({done.returncode}): {last_lines(output)}")


def last_lines(path: Path, size: int = 500) -> str:
    """Give the end of a text file on one line, empty when there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return " | ".join(file.read().decode(errors="replace").split("\n")).strip(" |")
    except FileNotFoundError:
        return ""


@cache
def boot_id() -> str:
    """Identify this boot of the machine: process ids and names under /run mean nothing in another one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks after boot; None when it does not live (any more)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def end_orphans(deployment: str, patience_s: float = 5.0) -> None:
    """End the commands that an earlier helper of this deployment left running, and wait until they are gone."""
    deadline = time.monotonic() + patience_s
    while orphans := [pid for pid in _marked(f"{MARK}={deployment}".encode()) if pid != os.getpid()]:
        kill_all(orphans)
        if time.monotonic() > deadline:
            raise Refused("transient", f"processes {orphans} of an earlier helper do not end")
        time.sleep(0.01)


def _marked(mark: bytes) -> list[int]:
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
    return found


def mount_overlay(lower: Path, upper: Path, work: Path, target: Path, *, volatile: bool) -> None:
    """Mount an overlay. `volatile`: the node's syncs return at once, which spares the machine's disk."""
    options = f"lowerdir={lower},upperdir={upper},workdir={work}" + (",volatile" if volatile else "")
    if _libc.mount(b"overlay", os.fsencode(target), b"overlay", 0, options.encode()):
        raise Refused("transient", f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")


def unmount(target: Path) -> None:
    """Take a mount away at once, also one that is busy; what is not mounted stays as it is."""
    while not _libc.umount2(os.fsencode(target), MNT_DETACH):
        pass


def mounts_below(place: Path) -> list[Path]:
    """Mount points of this machine at or below a directory, deepest last."""
    points = [Path(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in points if point == place or place in point.parents]
