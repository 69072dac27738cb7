"""A node's own files, copied into its root file system before it starts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from pipeline.ports.drivers import NodeRequest

#: tini reaps what sshd leaves behind, so that a restart of sshd is not the end of the node.
START = "#!/bin/sh\nmkdir -p /run/sshd /run/lock\n/usr/sbin/sshd -r\nexec /usr/bin/tini -- sleep infinity\n"
#: vagrant-lxc calls it before it stops the container, which ends the first process by itself.
HALT = "#!/bin/sh\n"


def hosts(addresses: Mapping[str, str]) -> str:
    """Name every node, as /etc/hosts wants it."""
    lines = [f"{address} {name}" for name, address in sorted(addresses.items())]
    return "\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *lines]) + "\n"


def plant(place: Path, node: NodeRequest, hosts_file: str, authorized_keys: str, owner: int) -> None:
    """Lay a node's files out in an empty directory, all `owner`'s."""
    files = {
        "etc/hostname": (node.name + "\n", 0o644),
        "etc/hosts": (hosts_file, 0o644),
        "etc/ssh/ssh_host_ed25519_key": (node.host_key.reveal().rstrip("\n") + "\n", 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (node.host_public_key + "\n", 0o644),
        "root/.ssh/authorized_keys": (authorized_keys + "\n", 0o600),
        "usr/local/sbin/greenroom-start": (START, 0o755),
        "usr/sbin/halt": (HALT, 0o755),
    }
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    for name, (content, mode) in files.items():
        _write(place / name, content, mode)
    for directory, _, leaves in os.walk(place):
        Path(directory).chmod(0o755)  # whatever the umask is: these modes are those of the node's own directories
        for name in (".", *leaves):
            os.lchown(f"{directory}/{name}", owner, owner)
    for private in ("root", "root/.ssh"):
        (place / private).chmod(0o700)


def _write(path: Path, content: str, mode: int) -> None:
    """Create a file with its final mode, so that a key is never readable to others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    path.chmod(mode)
