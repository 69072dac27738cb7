"""What a sandbox may use: control groups where we may make them, resource limits of each process everywhere."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.ports.sandboxes import SandboxCommand

_GROUPS = Path("/sys/fs/cgroup")
#: Joins the groups named first (their number, then their files), then becomes the rest of the arguments.
_JOIN = 'n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ >"$1" || exit 1; shift; n=$((n-1)); done; exec "$@"'
#: Seconds that the processes of a killed group have to vanish.
_VANISH_S = 5.0


def within_limits(command: SandboxCommand) -> Sequence[str]:
    """The command behind `prlimit`, which runs in the sandbox: its user's processes are counted there alone."""
    return (
        "prlimit",
        f"--as={command.memory_bytes}",
        f"--fsize={command.file_bytes}",
        f"--nproc={command.processes}",
        "--core=0",
        "--",
        *command.argv,
    )


@contextmanager
def groups(name: str, command: SandboxCommand) -> Iterator[Sequence[str]]:
    """Make control groups for one sandbox; the arguments that join them, none where groups cannot be made."""
    made: list[Path] = []
    try:
        for directory, values in _wanted(name, command):
            if not _make(directory, values):
                continue
            made.append(directory)
        files = [str(directory / "cgroup.procs") for directory in made]
        yield ("/bin/sh", "-c", _JOIN, "sh", str(len(files)), *files) if files else ()
    finally:
        for directory in made:
            _remove(directory)


def sweep_groups(prefix: str, names: Sequence[str]) -> None:
    """Remove groups of this prefix that belong to none of these sandboxes and hold no process."""
    for parent in (_GROUPS, _GROUPS / "memory", _GROUPS / "pids"):
        for left in parent.glob(f"{prefix}*"):
            if left.name not in names:
                with contextlib.suppress(OSError):  # still in use, or not ours to remove
                    left.rmdir()


def _wanted(name: str, command: SandboxCommand) -> Sequence[tuple[Path, dict[str, int]]]:
    memory, processes = command.memory_bytes, command.processes
    if _unified():
        return ((_GROUPS / name, {"memory.max": memory, "memory.swap.max": 0, "pids.max": processes}),)
    return (
        (_GROUPS / "memory" / name, {"memory.limit_in_bytes": memory, "memory.memsw.limit_in_bytes": memory}),
        (_GROUPS / "pids" / name, {"pids.max": processes}),
    )


def _unified() -> bool:
    return (_GROUPS / "cgroup.controllers").exists()


def _make(directory: Path, values: dict[str, int]) -> bool:
    """Make one group and set what it offers; False without the right or the controller to do so."""
    if not directory.parent.is_dir() or not os.access(directory.parent, os.W_OK):
        return False
    try:
        directory.mkdir()
    except OSError:
        return False
    for file, value in values.items():
        with contextlib.suppress(FileNotFoundError, PermissionError):  # a kernel without swap accounting
            (directory / file).write_text(str(value))
    return True


def _remove(directory: Path) -> None:
    """Kill what is left in a group and remove it."""
    deadline = time.monotonic() + _VANISH_S
    while True:
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        try:
            directory.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return
