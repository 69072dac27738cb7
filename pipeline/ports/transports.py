"""Transports are the channel to nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from pipeline.ports.common import Limits, Secret, Sink

#: Output of what is asked in passing.
ASKED_BYTES = 256 * 1024


@dataclass(frozen=True)
class NodeAccess:
    """How to reach one node; `host_public_key` (`ssh-ed25519 AAAA…`) is the only one that is believed.

    Other nodes of its environment may have to go another way: `inside_address`, unless that is empty.
    """

    name: str
    role: str
    address: str
    port: int
    user: str
    host_public_key: str
    inside_address: str = ""

    @property
    def inside(self) -> str:
        """Where the other nodes of its environment reach it."""
        return self.inside_address or self.address


@dataclass(frozen=True)
class EnvironmentAccess:
    """How to reach the nodes of one environment with its own key."""

    environment_id: str
    private_key: Secret
    nodes: tuple[NodeAccess, ...]

    def node(self, name: str) -> NodeAccess:
        return next(node for node in self.nodes if node.name == name)

    def of_role(self, role: str) -> tuple[NodeAccess, ...]:
        return tuple(node for node in self.nodes if node.role == role)


class Connection(Protocol):
    """Open channel to the nodes of one environment. Calls for different nodes may run in parallel threads.

    Errors: TransientError (the node does not answer, the link broke), PermanentError (wrong host key, refused
    login), LimitExceeded (the command was ended on the node, too).
    """

    def run(
        self,
        node: str,
        command: str,
        *,
        limits: Limits,
        output: Sink,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
    ) -> int:
        """Run a POSIX shell command as root with stdout and stderr together into `output`; its exit status.

        `env` and `stdin` never stand in an argument list.
        """

    def ask(self, node: str, command: str, *, timeout_s: float, stdin: bytes = b"") -> tuple[int, bytes]:
        """Run a short command as root, the quickest way there is; its exit status, and stdout and stderr together.

        `command` may stand in an argument list, `stdin` does not. It may run twice where the link broke, and may still
        run after TransientError. LimitExceeded is not raised: what takes longer, or says more than 256 KiB, is a
        TransientError.
        """

    def put(self, node: str, source: str, target: str, *, limits: Limits, replace: bool = True) -> None:
        """Copy the contents of the local directory `source` into the directory `target` of the node.

        `target` is made with its parents, then belongs to root; with `replace`, what was there before is gone.
        """

    def put_file(self, node: str, content: bytes, target: str, *, mode: int = 0o644) -> None:
        """Write one file; its directory is made, it is in place whole or not at all."""

    def fetch(self, node: str, path: str, *, limit_bytes: int, limits: Limits) -> Iterator[bytes]:
        """The content of one regular file, in pieces; NotFound when there is none, TooLarge beyond the limit."""

    def fetch_tree(self, node: str, path: str, target: str, *, limit_bytes: int, limits: Limits) -> Sequence[str]:
        """Copy a file or directory of the node into the local directory `target`; the relative names copied.

        Each name begins with the last component of `path`. Only regular files and directories arrive, none outside
        `target`; NotFound and TooLarge as for `fetch`.
        """


class Transport(Protocol):
    """Opens connections; any number at once."""

    def connect(self, access: EnvironmentAccess) -> AbstractContextManager[Connection]:
        """A connection; leaving it keeps what may be reused, `close` gives that back."""

    def probe(self, access: EnvironmentAccess, timeout_s: float) -> Mapping[str, str]:
        """Try a login on all nodes at once: node name to the reason why it failed; empty when all answer."""

    def command_line(self, access: EnvironmentAccess, node: str, directory: str) -> Sequence[str]:
        """Write key, known hosts and configuration into `directory` (made 0700), and return the argument list

        with which a person logs in to the node from this machine.
        """

    def close(self, environment_id: str) -> None:
        """End all that is kept open for an environment; also when nothing is."""
