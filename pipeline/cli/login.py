"""Logging in to a node of a run."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from typing import Any

from pipeline.cli import programs
from pipeline.cli.output import FAILED, Complaint


def log_in(access: dict[str, Any], node: str, command: Sequence[str]) -> int:
    """Run ssh with exactly this environment's key and host keys, which are gone afterwards; its exit status."""
    from pipeline.bootstrap import build
    from pipeline.ports.common import Secret
    from pipeline.ports.transports import EnvironmentAccess, NodeAccess

    nodes = tuple(NodeAccess(**node) for node in access["nodes"])
    known = EnvironmentAccess(access["environment"], Secret(access["private_key"]), nodes)
    with tempfile.TemporaryDirectory(prefix="greenroom-ssh-") as place:
        argv = [*build().transport.command_line(known, node, place), *remote(command)]
        try:
            return programs.call(argv)
        except FileNotFoundError as error:
            raise Complaint("ssh is not there; install openssh-client", FAILED) from error


def remote(command: Sequence[str]) -> list[str]:
    """The command as one word for the node's shell; a single word is a line of shell already."""
    if not command:
        return []
    return ["--", command[0] if len(command) == 1 else shlex.join(command)]
