"""Verifiers judge an environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.domain.blueprint import CommandSpec, TestinfraSpec
from pipeline.domain.resources import Resources
from pipeline.ports.common import Limits, Sink
from pipeline.ports.transports import Connection, EnvironmentAccess, NodeAccess


@dataclass(frozen=True)
class VerifyRequest:
    """One entry of the blueprint's `test:`. `source` is the local directory with the commit's files.

    `nodes` are those to judge, already chosen by the entry's `roles` or `on`; `workdirs` maps a role to the
    directory of its release on the node, for roles that were deployed. `scratch` is an empty local directory.
    `env` has the variables of commands on a node, by its name; `asked` what was asked for each node.
    """

    spec: TestinfraSpec | CommandSpec
    source: str
    scratch: str
    access: EnvironmentAccess
    nodes: tuple[NodeAccess, ...]
    workdirs: dict[str, str]
    env: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    asked: Mapping[str, Resources] = field(default_factory=dict)


@dataclass(frozen=True)
class VerifyResult:
    """`passed` says it all; `reports` are local paths of JUnit files that were written, `summary` is one line."""

    passed: bool
    summary: str
    reports: tuple[str, ...] = ()


class Verifier(Protocol):
    """Judges. A failing product is a result, never an exception; a broken machine is an InfraError."""

    def verify(self, request: VerifyRequest, connection: Connection, *, limits: Limits, output: Sink) -> VerifyResult:
        """Run the tests once. Errors: InfraError, LimitExceeded; UserError when the suite does not exist."""
