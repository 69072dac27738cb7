"""Locks between all threads and processes of a machine: files, whose locks fall with the process that held them."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from pipeline.domain.errors import TransientError


class Locks:
    """The locks of one deployment's driver, whose files are in `home`."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def environment(self, environment_id: str) -> AbstractContextManager[None]:
        """One at a time makes or removes an environment."""
        return locked(self._file(environment_id))

    @contextmanager
    def at_once(self, environment_id: str) -> Iterator[None]:
        """The same for whoever does not wait: TransientError when somebody has it."""
        with ExitStack() as held:
            try:
                held.enter_context(locked(self._file(environment_id), fcntl.LOCK_EX | fcntl.LOCK_NB))
            except BlockingIOError as error:
                raise TransientError(f"environment {environment_id}: its nodes are just made or removed") from error
            yield

    def busy(self, environment_id: str) -> bool:
        """Whether somebody makes or removes it."""
        try:
            with locked(self._file(environment_id), fcntl.LOCK_SH | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    def boxes(self) -> AbstractContextManager[None]:
        """One at a time adds a box."""
        return locked(self._home / "boxes")

    def _file(self, environment_id: str) -> Path:
        """There are 256, so that they do not become more; two environments seldom share one."""
        return self._home / hashlib.sha256(environment_id.encode()).hexdigest()[:2]


@contextmanager
def locked(path: Path, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold the lock of a file, whose folder is made where it is missing."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, how)
        yield
