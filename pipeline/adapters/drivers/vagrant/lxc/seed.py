"""A container's own files, copied into its root file system before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.adapters.drivers.vagrant.seed import PRIVATE

#: tini reaps what sshd leaves behind, so that a restart of sshd is not the end of the node.
START = "#!/bin/sh\nmkdir -p /run/sshd /run/lock\n/usr/sbin/sshd -r\nexec /usr/bin/tini -- sleep infinity\n"
#: vagrant-lxc calls it before it stops the container, which ends the first process by itself.
HALT = "#!/bin/sh\n"


def plant(place: Path, files: Mapping[str, tuple[str, int]], owner: int) -> None:
    """Lay a node's files out in an empty directory, all `owner`'s."""
    own = {"usr/local/sbin/greenroom-start": (START, 0o755), "usr/sbin/halt": (HALT, 0o755)}
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, (content, mode) in {**files, **own}.items():
        _write(place / name, content, mode)
    for directory, _, leaves in os.walk(place):
        Path(directory).chmod(0o755)  # whatever the umask is: these modes are those of the node's own directories
        for name in (".", *leaves):
            os.lchown(f"{directory}/{name}", owner, owner)
    for private in PRIVATE:
        (place / private).chmod(0o700)


def _write(path: Path, content: str, mode: int) -> None:
    """Create a file with its final mode, so that a key is never readable to others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    path.chmod(mode)
