"""Child processes of this machine, read while they run and bound by limits."""

from __future__ import annotations

import contextlib
import math
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import IO

from pipeline.domain.errors import PermanentError
from pipeline.ports.common import LimitExceeded, Limits

_PIECE = 64 * 1024
_UNLIMITED = Limits(total_s=math.inf, silence_s=math.inf, output_bytes=sys.maxsize)


class Stream(Enum):
    """Where a piece of a child's output came from."""

    OUTPUT = "output"
    CONTROL = "control"


class Child:
    """One child process; a context manager that leaves no process and no pipe behind.

    `feed` goes to its standard input, which is closed after it unless `hold_input` is set: then `say_last` closes it.
    Standard output is `Stream.OUTPUT`; standard error is `Stream.CONTROL`, or joins the output with `merge`.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: str | None = None,
        feed: Iterable[bytes] = (),
        hold_input: bool = False,
        merge: bool = False,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._feed = iter(feed)
        self._hold = hold_input
        self._unsent = memoryview(b"")
        self._fed = False
        self._linger_s: float | None = None
        self._moved = time.monotonic()
        self._watch = _Watch(_UNLIMITED, self)
        self._selector = selectors.DefaultSelector()
        self._process = _spawn(argv, env, cwd, merge, pass_fds)
        self._register(self._process.stdin, selectors.EVENT_WRITE, None)
        self._register(self._process.stdout, selectors.EVENT_READ, Stream.OUTPUT)
        self._register(self._process.stderr, selectors.EVENT_READ, Stream.CONTROL)

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def stream(self, limits: Limits) -> Iterator[tuple[Stream, bytes]]:
        """Yield the output piece by piece until the process is gone; LimitExceeded leaves it running."""
        self.limit(limits)
        while self._readable():
            if not self._turn():
                return
            yield from self._ready()
        while not self.gone_within(self._watch.left_s()):
            self._watch.check()

    def limit(self, limits: Limits) -> None:
        """From now on these limits hold: the time counts from now, the output from its first byte."""
        self._moved = time.monotonic()
        self._watch = _Watch(limits, self, self._watch.output)

    def say_last(self, data: bytes) -> None:
        """Send the last words and close the input; a child that does not listen any more is no error."""
        stdin = self._process.stdin
        if stdin is None or stdin.closed:
            return
        self._drop_input()
        with contextlib.suppress(BrokenPipeError, BlockingIOError):
            os.write(stdin.fileno(), data)
        _close(stdin)

    def linger(self, seconds: float) -> None:
        """From now on end `stream` once nothing came for so long, though the output may still be open."""
        self._linger_s = seconds
        self._moved = time.monotonic()

    def end_input(self) -> None:
        """Close the input without last words."""
        self._drop_input()
        _close(self._process.stdin)

    def gone_within(self, seconds: float) -> bool:
        """Wait for the process to end by itself."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self) -> int:
        """Kill the process if it still runs, close its pipes; its exit status."""
        if self._process.poll() is None:
            self._process.kill()
        status = self._process.wait()
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            _close(pipe)
        return status

    @property
    def moved(self) -> float:
        """When data last moved, on the monotonic clock."""
        return self._moved

    def _register(self, pipe: IO[bytes] | None, events: int, stream: Stream | None) -> None:
        if pipe is not None:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, events, stream)

    def _readable(self) -> bool:
        return any(key.data is not None for key in self._selector.get_map().values())

    def _turn(self) -> bool:
        """Check the limits; False when the linger time is over."""
        if self._linger_s is not None and time.monotonic() - self._moved >= self._linger_s:
            return False
        self._watch.check()
        return True

    def _ready(self) -> Iterator[tuple[Stream, bytes]]:
        left_s = self._watch.left_s()
        wait_s = left_s if self._linger_s is None else min(left_s, self._linger_s)
        for key, _ in self._selector.select(wait_s):
            if key.data is None:
                self._write()
                continue
            data = os.read(key.fd, _PIECE)
            if not data:
                self._selector.unregister(key.fileobj)
                continue
            yield key.data, self._watch.admit(data) if key.data is Stream.OUTPUT else data
            self._moved = time.monotonic()

    def _write(self) -> None:
        stdin = self._process.stdin
        if self._fed or stdin is None or not self._more():
            return
        try:
            sent = os.write(stdin.fileno(), self._unsent[:_PIECE])
        except BlockingIOError:
            return
        except BrokenPipeError:  # the child does not want it: its exit status says why
            self.end_input()
            return
        self._unsent = self._unsent[sent:]
        self._moved = time.monotonic()

    def _more(self) -> bool:
        while not self._unsent:
            piece = next(self._feed, None)
            if piece is None:
                self._all_fed()
                return False
            self._unsent = memoryview(piece)
        return True

    def _all_fed(self) -> None:
        if self._hold:
            self._drop_input()
        else:
            self.end_input()

    def _drop_input(self) -> None:
        if not self._fed and self._process.stdin is not None:
            self._fed = True
            self._selector.unregister(self._process.stdin)


def started(pid: int) -> str:
    """When a process started, in the kernel's ticks: tells it from a later one of its id. Empty when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (FileNotFoundError, ProcessLookupError):
        return ""


class _Watch:
    """Counts one command's output and time against its limits."""

    def __init__(self, limits: Limits, child: Child, output: int = 0) -> None:
        self._limits = limits
        self._child = child
        self._started = time.monotonic()
        self.output = output

    def left_s(self) -> float:
        now = time.monotonic()
        total = self._started + self._limits.total_s - now
        return max(0.0, min(total, self._child.moved + self._limits.silence_s - now))

    def check(self) -> None:
        now = time.monotonic()
        if now - self._started >= self._limits.total_s:
            raise LimitExceeded("total", f"still running after {self._limits.total_s:g} s")
        if now - self._child.moved >= self._limits.silence_s:
            raise LimitExceeded("silence", f"no output for {self._limits.silence_s:g} s")

    def admit(self, data: bytes) -> bytes:
        self.output += len(data)
        if self.output > self._limits.output_bytes:
            raise LimitExceeded("output", f"more than {self._limits.output_bytes} bytes of output")
        return data


def _spawn(
    argv: Sequence[str], env: Mapping[str, str], cwd: str | None, merge: bool, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            argv,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            bufsize=0,
        )
    except FileNotFoundError as error:
        raise PermanentError(f"{error.filename} is not there; `greenroom doctor` tells what to install") from error


def _close(pipe: IO[bytes] | None) -> None:
    if pipe is not None and not pipe.closed:
        pipe.close()
