"""One process that starts all others of a deployment, restarts what dies, and ends them in order."""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from pipeline.settings import Settings
from workers.lifeline import adopt_orphans, die_with
from workers.programs import Program, programs

log = logging.getLogger(__name__)
#: What a program may take to serve when others wait for it, in seconds.
READY_S = 30.0
#: What a program may take to end before it is killed, in seconds.
GRACE_S = 10.0
#: Wait before the restart of what died again and again, in seconds; the first restart is at once.
BACKOFF_S = (0.0, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
#: Who lived for so long is restarted at once again, in seconds.
SOUND_S = 60.0
#: A log bigger than this is put aside at the start, in bytes.
LOG_LIMIT = 4 * 1024 * 1024
LOGS_KEPT = 3
LOOK_S = 0.05


class NotStarted(Exception):
    """A program that others need did not come up."""


@dataclass
class Child:
    """One program and its process, if it runs."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    deaths: int = 0
    started_at: float = 0.0
    due_at: float = 0.0
    last_end: str = ""

    @property
    def running(self) -> bool:
        return self.process is not None


@dataclass
class Supervisor:
    """Runs the programs of a deployment until SIGTERM or SIGINT."""

    settings: Settings
    children: list[Child] = field(default_factory=list)
    ending: bool = False

    def run(self) -> None:
        """NotStarted when something that others need did not come up; all is ended then, too."""
        adopt_orphans()
        with self._signals() as woken:
            try:
                self._start_all(woken)
                while not self.ending:
                    self._restart_due()
                    woken(self._patience())
            finally:
                self._stop_all(woken)

    @contextmanager
    def _signals(self) -> Iterator[Callable[[float], None]]:
        """Gives a function that sleeps until a signal comes or some seconds are over, and reaps who ended."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._end)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ours, kernels = socket.socketpair()
        with ours, kernels, selectors.DefaultSelector() as selector:
            ours.setblocking(False)
            kernels.setblocking(False)
            selector.register(ours, selectors.EVENT_READ)
            signal.set_wakeup_fd(kernels.fileno(), warn_on_full_buffer=False)

            def woken(seconds: float) -> None:
                if selector.select(seconds):
                    ours.recv(4096)
                self._reap()

            yield woken
            signal.set_wakeup_fd(-1)

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self.ending = True

    def _start_all(self, woken: Callable[[float], None]) -> None:
        rotate_logs(self.settings.process_logs_dir)
        self._hang_up()
        for program in programs(self.settings):
            if self.ending:
                return
            child = Child(program)
            self.children.append(child)
            self._start(child)
            self._await(child, woken)

    def _await(self, child: Child, woken: Callable[[float], None]) -> None:
        serves = child.program.ready
        deadline = time.monotonic() + READY_S
        while serves is not None and not self.ending and not serves():
            if not child.running or time.monotonic() > deadline:
                raise NotStarted(f"{child.program.name} does not serve: {child.last_end or f'silent for {READY_S} s'}")
            woken(LOOK_S)

    def _start(self, child: Child) -> None:
        program = child.program
        log_path = self.settings.process_logs_dir / f"{program.name}.log"
        with log_path.open("ab") as output:
            child.process = subprocess.Popen(
                program.argv,
                stdin=subprocess.PIPE if program.piped else subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.settings.home,
                process_group=0,
                preexec_fn=partial(die_with, os.getpid()),  # noqa: PLW1509  # this process has no threads
            )
        child.starts += 1
        child.started_at = time.monotonic()
        log.info("%s started as process %d", program.name, child.process.pid)
        self._tell()

    def _restart_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if not child.running and now >= child.due_at:
                self._start(child)

    def _patience(self) -> float:
        waits = [child.due_at - time.monotonic() for child in self.children if not child.running]
        return max(0.0, min([60.0, *waits]))

    def _reap(self) -> None:
        """Take note of everyone who ended, orphans included."""
        with contextlib.suppress(ChildProcessError):  # nobody is left
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self._note_end(*ended)

    def _note_end(self, pid: int, status: int) -> None:
        for child in self.children:
            if child.process is not None and child.process.pid == pid:
                self._ended(child, child.process, os.waitstatus_to_exitcode(status))
                self._tell()

    def _ended(self, child: Child, process: subprocess.Popen[bytes], code: int) -> None:
        process.returncode = code
        if process.stdin is not None:
            process.stdin.close()
        child.process = None
        child.last_end = f"it was ended by signal {-code}" if code < 0 else f"it ended with exit status {code}"
        now = time.monotonic()
        child.deaths = 1 if now - child.started_at > SOUND_S else child.deaths + 1
        child.due_at = now + BACKOFF_S[min(child.deaths, len(BACKOFF_S)) - 1]
        if not self.ending:
            log.warning("%s: %s", child.program.name, child.last_end)

    def _stop_all(self, woken: Callable[[float], None]) -> None:
        self.ending = True
        for phase in sorted({child.program.phase for child in self.children}, reverse=True):
            self._stop([child for child in self.children if child.program.phase == phase], woken)
        self._hang_up()
        self._end_orphans(woken)

    def _stop(self, children: Sequence[Child], woken: Callable[[float], None]) -> None:
        for child in children:
            _ask_to_end(child)
        deadline = time.monotonic() + GRACE_S
        while any(child.running for child in children):
            woken(LOOK_S)
            if time.monotonic() > deadline:
                deadline += GRACE_S
                self._kill(children)

    def _kill(self, children: Sequence[Child]) -> None:
        for child in children:
            if child.process is not None:
                log.warning("%s did not end within %.0f s and is killed", child.program.name, GRACE_S)
                with contextlib.suppress(PermissionError):  # root's: it has its own way to end
                    os.kill(child.process.pid, signal.SIGKILL)

    def _end_orphans(self, woken: Callable[[float], None]) -> None:
        """Kill what our programs left running; who is root's is asked by its pipe alone."""
        deadline = time.monotonic() + GRACE_S
        while (left := children_of(os.getpid())) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            woken(LOOK_S)

    def _hang_up(self) -> None:
        """End kept SSH connections; there are none unless a run was interrupted."""
        kept = self.settings.run_dir / "ssh"
        if kept.exists() and any(kept.iterdir()):
            subprocess.run([sys.executable, "-P", "-m", "workers", "hang-up"], timeout=60, check=False)

    def _tell(self) -> None:
        """Let the command line know what runs."""
        processes = {
            child.program.name: {
                "pid": child.process.pid if child.process else None,
                "starts": child.starts,
                "last_end": child.last_end,
            }
            for child in self.children
        }
        facts = {"pid": os.getpid(), **addresses(self.settings), "processes": processes}
        write_whole(self.settings.up_file, json.dumps(facts))


def addresses(settings: Settings) -> dict[str, str]:
    return {"api": f"http://{settings.api_bind}", "hooks": f"http://{settings.hooks_bind}"}


def _ask_to_end(child: Child) -> None:
    if child.process is None:
        return
    if child.process.stdin is not None:
        child.process.stdin.close()
    else:
        child.process.terminate()


def children_of(pid: int) -> list[int]:
    """Processes whose parent is `pid`, those that ended included."""
    tasks = Path(f"/proc/{pid}/task")
    return [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]


def rotate_logs(place: Path) -> None:
    """Put big logs aside, keeping the newest few of each."""
    place.mkdir(mode=0o700, exist_ok=True)
    for file in place.glob("*.log"):
        if file.stat().st_size > LOG_LIMIT:
            for number in range(LOGS_KEPT, 1, -1):
                older = file.with_name(f"{file.name}.{number - 1}")
                if older.exists():
                    older.replace(file.with_name(f"{file.name}.{number}"))
            file.replace(file.with_name(f"{file.name}.1"))


def write_whole(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def take_lock(path: Path) -> int | None:
    """The deployment's lock, held as long as this process lives; None when another supervisor has it.

    A lock of the process (POSIX), so that others may ask who has it. It would be lost if this process opened and closed
    the file once more.
    """
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # POSIX allows both
        os.close(lock)
        return None
    return lock


def serve(lifeline: int | None) -> int:
    """Run the deployment of this machine's settings; end with the process `lifeline`, if there is one."""
    settings = Settings()
    if lifeline is not None:
        die_with(lifeline, signal.SIGTERM)
    # Files of a commit go to nodes with the modes they have here, and nodes inherit the helper's.
    os.umask(0o022)
    settings.run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(settings.up_lock)
    if lock is None:
        log.error("the deployment in %s runs already", settings.home)
        return 1
    try:
        Supervisor(settings).run()
    except (NotStarted, OSError) as error:
        log.error("%s; its log is in %s", error, settings.process_logs_dir)
        return 1
    finally:
        settings.up_file.unlink(missing_ok=True)
        os.close(lock)
    return 0
