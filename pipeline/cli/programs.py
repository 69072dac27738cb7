"""Programs that a command starts: never through a shell, their exit status is ours."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

#: What Python ignores or we do, and a program must not.
_DEFAULTS = (signal.SIGINT, signal.SIGPIPE, signal.SIGHUP)


def spawn(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    log: Path | None = None,
    own_group: bool = False,
) -> int:
    """Start a program; its process id. With `log`, it reads nothing and writes there."""
    actions: list[tuple[int, int, int] | tuple[int, int, str, int, int]] = []
    if log is not None:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
    environment = dict(os.environ if env is None else env)
    if own_group:
        return os.posix_spawnp(argv[0], list(argv), environment, file_actions=actions, setsigdef=_DEFAULTS, setpgroup=0)
    return os.posix_spawnp(argv[0], list(argv), environment, file_actions=actions, setsigdef=_DEFAULTS)


def ended(pid: int) -> int | None:
    """The exit status of a child as a shell would say it, None while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    return _shell_code(status) if found else None


def wait(pid: int) -> int:
    return _shell_code(os.waitpid(pid, 0)[1])


def _shell_code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


def call(argv: Sequence[str], env: Mapping[str, str] | None = None, *, log: Path | None = None) -> int:
    """Run a program to its end; Ctrl-C is for it alone."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return wait(spawn(argv, env, log=log))
    finally:
        signal.signal(signal.SIGINT, before)
