"""Commands of the machine: lists of arguments, never a shell."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pipeline.adapters.drivers.vagrant.locks import locked
from pipeline.domain.errors import TransientError

COMMAND_S = 60.0
#: What deployments share on a machine is changed by one at a time.
LOCK = Path("/run/greenroom-vagrant.lock")


def run(argv: Sequence[str], text: str = "", *, limit_s: float = COMMAND_S) -> str:
    """Run to the end with `text` as input; its output. TransientError when it fails."""
    env = {"PATH": os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    try:
        done = subprocess.run(
            argv, input=text, capture_output=True, text=True, env=env, timeout=limit_s, check=False, cwd="/"
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransientError(f"{' '.join(argv)}: {error}") from error
    if done.returncode:
        raise TransientError(f"{' '.join(argv)} failed with status {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout


def machine_lock() -> AbstractContextManager[None]:
    """Be the only one of this machine."""
    return locked(LOCK)
