"""One private directory an environment: its key, its known hosts, its ssh configuration and its control sockets."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.ports.transports import EnvironmentAccess


def private_directory(path: Path) -> Path:
    """Make a directory that only we may enter. Errors: PermanentError when it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise PermanentError(f"{path} is not a directory of ours; move it away, keys are kept there")
    path.chmod(0o700)
    return path


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, whole or not at all; one that reads the same is left alone."""
    try:
        if path.read_text() == text:
            return
    except FileNotFoundError:
        pass
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    with os.fdopen(handle, "w") as file:
        file.write(text)
    Path(name).replace(path)


def key_text(access: EnvironmentAccess) -> str:
    """The private key as ssh wants it: with a newline at its end."""
    return access.private_key.reveal().rstrip("\n") + "\n"


class EnvironmentDirectory:
    """Found by the environment's id alone, so that any process can end what another one opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, access: EnvironmentAccess, config: str, known_hosts: str) -> None:
        private_directory(self.path)
        write_private(self.path / "key", key_text(access))
        write_private(self.path / "known_hosts", known_hosts)
        write_private(self.path / "config", config)

    def sockets(self) -> Sequence[str]:
        """Names of the control sockets that are there."""
        return sorted(file.name for file in self.path.glob("*.sock"))

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock of this environment that other processes respect."""
        try:
            handle = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError as error:
            raise TransientError(f"{self.path} is gone: the environment was closed meanwhile") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def remove(self) -> None:
        """Errors: TransientError when something of it stays."""
        shutil.rmtree(self.path, ignore_errors=True)  # what vanishes meanwhile (a socket) is no error
        if self.path.exists():
            raise TransientError(f"{self.path} could not be removed; look at its owner and try again")
