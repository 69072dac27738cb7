"""Processes of the cloud: started once, each in a group of its own, and ended by exactly that."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.1
TAIL = 2000


@dataclass(frozen=True)
class Started:
    """A process, which leads a group and a session, by its id and when it began, in ticks since the machine's start.

    Ids are used again, but not while a session of that id has members; what such a leader left belongs to it if it
    began later than the leader.
    """

    pid: int
    ticks: int

    def lives(self) -> bool:
        return _ticks(self.pid) == self.ticks

    def signal(self, number: int) -> None:
        """Tell everything of its session that is still there."""
        for pid in self.members():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def members(self) -> list[int]:
        """Who lives of its session, itself or not."""
        return [pid for pid in _processes() if _session(pid) == self.pid and _ticks(pid) >= self.ticks]


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0


def _ticks(pid: int) -> int:
    """When a process began; 0 for one that is gone, or waits for its parent to see that."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True)
class Processes:
    """Records below `records`, output below `logs`; `env` is what every process gets."""

    records: Path
    logs: Path
    env: Mapping[str, str]

    def start(self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """Start it unless it lives."""
        if self.lives(name):
            return
        self.records.mkdir(parents=True, exist_ok=True)
        with (self.logs / f"{name}.out").open("wb") as log:
            process = subprocess.Popen(
                [str(word) for word in argv],
                env={**self.env, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
            )
        record = {"pid": process.pid, "ticks": _ticks(process.pid)}
        (self.records / f"{name}.json").write_text(json.dumps(record))

    def find(self, name: str) -> Started | None:
        file = self.records / f"{name}.json"
        return Started(**json.loads(file.read_text())) if file.exists() else None

    def lives(self, name: str) -> bool:
        found = self.find(name)
        return found is not None and found.lives()

    def names(self) -> list[str]:
        """All that were started, the last one first."""
        files = sorted(self.records.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [file.stem for file in files]

    def stop(self, names: Iterable[str], number: int, within_s: float) -> None:
        """Signal them, and kill what is still there after a while."""
        found = {name: started for name in names if (started := self.find(name)) is not None}
        for started in found.values():
            started.signal(number)
        deadline = time.monotonic() + within_s
        while any(started.members() for started in found.values()) and time.monotonic() < deadline:
            time.sleep(LOOK_S)
        for name, started in found.items():
            started.signal(signal.SIGKILL)
            (self.records / f"{name}.json").unlink()

    def until(self, ready: Callable[[], bool], what: str, name: str = "", within_s: float = 120.0) -> None:
        """Wait; the command ends with the last words of process `name` when it dies or nothing happens."""
        deadline = time.monotonic() + within_s
        while not ready():
            if (name and not self.lives(name)) or time.monotonic() > deadline:
                raise SystemExit(f"{what}: it did not happen\n{self.said(name)}")
            time.sleep(LOOK_S)

    def said(self, name: str) -> str:
        files = [file for file in (self.logs / f"{name}.out", self.logs / f"{name}.log") if file.exists()]
        return "\n".join(f"── {file}\n{file.read_text(errors='replace')[-TAIL:]}" for file in files)
