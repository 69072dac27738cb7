"""Sandboxes run what a repository brings, away from the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.ports.common import Limits, Secret, Sink
from pipeline.ports.transports import NodeAccess


@dataclass(frozen=True)
class SandboxCommand:
    """A command in a sandbox.

    `read_only` maps paths in the sandbox to paths of the machine; `writable` likewise. `relays` are the nodes whose
    SSH port can be reached, each as the Unix socket `/relay/<node name>.sock`; nothing else of the network exists.
    `secrets` maps paths in the sandbox to contents that only the command may read and that are never on a disk.
    `memory_bytes` and `processes` bound the sandbox as a whole or each process, as the sandbox can.
    """

    argv: tuple[str, ...]
    cwd: str
    read_only: Mapping[str, str] = field(default_factory=dict)
    writable: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict)
    relays: tuple[NodeAccess, ...] = ()
    memory_bytes: int = 1024 * 1024 * 1024
    file_bytes: int = 64 * 1024 * 1024
    processes: int = 256


class Sandbox(Protocol):
    """Runs one command at a time per call, any number of calls at once."""

    def run(self, command: SandboxCommand, *, limits: Limits, output: Sink) -> int:
        """Run it to its end and leave nothing behind; its exit status.

        Errors: LimitExceeded (everything in the sandbox was ended), PermanentError (no sandbox can be made here).
        """
