"""Calls of Vagrant that end in time, are heard while they run, and leave no process behind."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from pipeline.adapters.drivers.vagrant.session import FILE
from pipeline.domain.errors import TransientError

log = logging.getLogger(__name__)

Say = Callable[[bytes], object]
#: How often a call's output is passed on, in seconds.
LISTEN_S = 0.1
#: How long killed processes may take to go, in seconds.
GONE_S = 10.0
LAST_LINES = 8
#: How Ruby says where in its source it was, and nothing else.
WHERE = re.compile(r"\s*(?:from |/|<internal:)\S*:\d+:in `[^']*'")


class Vagrant:
    """Calls Vagrant, whose own home is `home`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._env = {
            "HOME": str(Path.home()),
            "LC_ALL": "C.UTF-8",
            "PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_HOME": str(home),
            "VAGRANT_NO_COLOR": "1",
        }

    def call(self, place: Path, arguments: Sequence[str], *, limit_s: float, say: Say, provider: str) -> None:
        """Run to the end; `say` gets the output piece by piece.

        TransientError when it fails or takes longer than `limit_s`; then nothing of it runs any more.
        """
        end_session(place)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        output = Output(place)
        process = self._start(place, arguments, provider)
        deadline = time.monotonic() + limit_s
        try:
            while process.poll() is None and time.monotonic() < deadline:
                output.pass_on(say)
                time.sleep(LISTEN_S)
            status = process.poll()
        finally:
            end_session(place, process)
        output.pass_on(say)
        what = f"vagrant {arguments[0]} in {place}"
        if status is None:
            raise TransientError(f"{what} took longer than {limit_s:g} s and was ended{output.last_words()}")
        if status:
            raise TransientError(f"{what} failed with status {status}{output.last_words()}")

    def _start(self, place: Path, arguments: Sequence[str], provider: str) -> subprocess.Popen[bytes]:
        argv = [sys.executable, "-P", "-m", "pipeline.adapters.drivers.vagrant.session", *arguments]
        env = {**self._env, "VAGRANT_DEFAULT_PROVIDER": provider}
        with (place / Output.OUT).open("ab") as out, (place / Output.ERR).open("ab") as err:
            return subprocess.Popen(
                argv, cwd=place, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
            )


class Output:
    """What a call writes: files in its directory, which it can go on to write when nobody listens any more."""

    OUT, ERR = "vagrant.out", "vagrant.err"

    def __init__(self, place: Path) -> None:
        self._files = [place / name for name in (self.OUT, self.ERR)]
        self._read = [_size(file) for file in self._files]
        self._begin = self._read[1]

    def pass_on(self, say: Say) -> None:
        """Say what was written since the last time."""
        for number, file in enumerate(self._files):
            piece = _from(file, self._read[number])
            self._read[number] += len(piece)
            if piece:
                say(piece)

    def last_words(self) -> str:
        """The end of what it wrote to its standard error, without where in its source it was."""
        said = _from(self._files[1], self._begin).decode(errors="replace").splitlines()
        lines = [line for line in said if line.strip() and not WHERE.fullmatch(line)][-LAST_LINES:]
        return ": " + "\n".join(lines) if lines else ""


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _from(file: Path, offset: int) -> bytes:
    if not file.exists():
        return b""
    with file.open("rb") as content:
        content.seek(offset)
        return content.read()


def end_session(place: Path, leader: subprocess.Popen[bytes] | None = None) -> None:
    """End every process of the last call in a directory, also where whoever began it died; TransientError if some stay.

    What became of a container is no part of it: the provider's programs leave the session when they have started one.
    """
    deadline = time.monotonic() + GONE_S
    while left := list(_members(place)):
        if time.monotonic() > deadline:
            raise TransientError(f"processes {left} of vagrant in {place} do not end: end them by hand")
        for pid in left:
            _kill(pid)
        if leader is not None:
            leader.poll()
        time.sleep(0.02)
    if leader is not None:
        leader.kill()
        leader.wait()
    (place / FILE).unlink(missing_ok=True)


def _members(place: Path) -> Iterator[int]:
    """Processes of the recorded session that work in its directory: the number alone may be another's by now."""
    try:
        session = (place / FILE).read_text()
    except FileNotFoundError:
        return
    for entry in Path("/proc").glob("[0-9]*"):
        if _session_of(entry) == session and _works_in(entry, place):
            yield int(entry.name)


def _session_of(entry: Path) -> str:
    try:
        state, _, _, session, *_ = (entry / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if state == "Z" else session


def _works_in(entry: Path, place: Path) -> bool:
    try:
        return (entry / "cwd").readlink() == place.resolve()
    except OSError:  # it ended, or is another user's
        return False


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        log.debug("process %d of vagrant ended by itself", pid)
