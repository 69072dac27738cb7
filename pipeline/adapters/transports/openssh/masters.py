"""Kept connections: one ssh process a node that other ssh processes go through, whoever of us started it."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pipeline.adapters.transports.openssh.config import CONNECT_S, socket_name
from pipeline.adapters.transports.openssh.directory import EnvironmentDirectory
from pipeline.clients.processes import started
from pipeline.domain.errors import InfraError, PermanentError, TransientError
from pipeline.ports.transports import NodeAccess

#: The only variables that ssh gets: no agent, no askpass, no locale to send.
ENV = {"PATH": os.defpath + ":/usr/sbin", "LC_ALL": "C"}
#: Seconds that a kept connection may take to answer on its socket.
_ANSWER_S = 3.0
#: What ssh says when another try will fare no better.
_FINAL = ("Host key verification failed", "Permission denied", "no matching host key", "invalid format")


def judge(node: NodeAccess, said: str) -> InfraError:
    """The error for what ssh said: a refused login or a wrong host key is final, all else may pass."""
    reason = " ".join(said.split())[-500:] or "the connection was lost"
    where = f"node {node.name} ({node.address}:{node.port})"
    if any(sign in reason for sign in _FINAL):
        return PermanentError(f"{where} refuses SSH: {reason}; its key or ours is not the one that was set")
    return TransientError(f"{where} does not answer SSH: {reason}")


class Masters:
    """The kept connections of one environment."""

    def __init__(self, directory: EnvironmentDirectory) -> None:
        self._directory = directory

    def ensure(self, node: NodeAccess) -> None:
        """Open the node's connection unless its socket is there; the errors are those of `judge`."""
        if self._socket(socket_name(node)).exists():
            return
        with self._directory.locked(node.name):
            if not self._socket(socket_name(node)).exists():
                self._open(node)

    def reopen(self, node: NodeAccess) -> None:
        """Open it anew unless it answers; another process may have been quicker."""
        with self._directory.locked(node.name):
            if not self.answers(node):
                self._end(socket_name(node))
                self._open(node)

    def answers(self, node: NodeAccess) -> bool:
        """Whether the kept connection lives."""
        return self._ask("check", socket_name(node)) is not None

    def end_all(self) -> None:
        """End every connection that has a socket here; what does not obey is killed."""
        for name in self._directory.sockets():
            self._end(name)

    def _socket(self, name: str) -> Path:
        return self._directory.path / name

    def _open(self, node: NodeAccess) -> None:
        with tempfile.NamedTemporaryFile(dir=self._directory.path, prefix=".log-") as log:
            argv = ["-f", "-N", "-o", "ControlMaster=yes", "-E", Path(log.name).name, node.name]
            try:
                done = self._ssh(argv, CONNECT_S + 10)
            except subprocess.TimeoutExpired as error:
                raise TransientError(f"node {node.name} took more than {CONNECT_S + 10} s to log in") from error
            if done.returncode != 0:
                raise judge(node, Path(log.name).read_text(errors="replace"))
        self._note_process(socket_name(node))

    def _note_process(self, name: str) -> None:
        """Write down which process it is, so that it can be ended when it does not answer any more."""
        said = self._ask("check", name) or ""
        pid = said.partition("pid=")[2].partition(")")[0]
        if pid.isdecimal():
            self._note(name).write_text(f"{pid} {started(int(pid))}")

    def _note(self, name: str) -> Path:
        return self._directory.path / f"{name}.pid"

    def _ask(self, what: str, name: str) -> str | None:
        """What the connection said to `check` or `exit`; None when it did not answer."""
        argv = ["-o", f"ControlPath=./{name}", "-O", what, "any"]
        try:
            done = self._ssh(argv, _ANSWER_S, stderr=subprocess.PIPE)
        except subprocess.TimeoutExpired:
            return None
        return done.stderr.decode(errors="replace") if done.returncode == 0 else None

    def _end(self, name: str) -> None:
        if self._ask("exit", name) is None:
            self._kill(name)
        self._note(name).unlink(missing_ok=True)
        self._socket(name).unlink(missing_ok=True)

    def _kill(self, name: str) -> None:
        try:
            pid, ticks = self._note(name).read_text().split()
        except (FileNotFoundError, ValueError):
            return
        if started(int(pid)) == ticks:
            os.kill(int(pid), signal.SIGKILL)

    def _ssh(
        self, argv: Sequence[str], timeout_s: float, stderr: int = subprocess.DEVNULL
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["ssh", "-F", "config", *argv],
                cwd=self._directory.path,
                env=ENV,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                timeout=timeout_s,
                check=False,
            )
        except FileNotFoundError as error:
            raise PermanentError(f"{error.filename} is not there; install openssh-client") from error
