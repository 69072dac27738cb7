"""A node's own files, which are in its root file system before it starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.ports.drivers import NodeRequest

#: Directories of them that are root's alone.
PRIVATE = ("root", "root/.ssh")


def files(node: NodeRequest, hosts_file: str, login_keys: Sequence[str]) -> dict[str, tuple[str, int]]:
    """Content and permissions by path."""
    return {
        "etc/hostname": (node.name + "\n", 0o644),
        "etc/hosts": (hosts_file, 0o644),
        "etc/ssh/ssh_host_ed25519_key": (node.host_key.reveal().rstrip("\n") + "\n", 0o600),
        "etc/ssh/ssh_host_ed25519_key.pub": (node.host_public_key + "\n", 0o644),
        "root/.ssh/authorized_keys": ("\n".join(login_keys) + "\n", 0o600),
    }


def hosts(addresses: Mapping[str, str]) -> str:
    """Name every node, as /etc/hosts wants it."""
    lines = [f"{address} {name}" for name, address in sorted(addresses.items())]
    return "\n".join(["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback", *lines]) + "\n"
