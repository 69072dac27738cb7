"""How processes end with the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal

#: prctl(2): the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1
#: prctl(2): processes that lose their parent become children of this one instead of init's.
PR_SET_CHILD_SUBREAPER = 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Get a signal when the parent dies, also when that happened already."""
    _libc.prctl(PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os.kill(os.getpid(), number)


def adopt_orphans() -> None:
    """Become the parent of every process below that loses its own."""
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
