"""Configurators converge nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from pipeline.domain.blueprint import ConfigureSpec
from pipeline.ports.common import Limits, Sink
from pipeline.ports.transports import Connection, NodeAccess


@dataclass(frozen=True)
class ConvergeRequest:
    """One node to converge. `source` is the local directory with the commit's files.

    `run_list`, `script` and `attributes` are the role's (attributes: the blueprint's with the role's merged in).
    `nodes` are all nodes of the environment, which recipes see as node data.
    """

    environment_id: str
    service: str
    node: NodeAccess
    nodes: tuple[NodeAccess, ...]
    source: str
    spec: ConfigureSpec
    run_list: tuple[str, ...] = ()
    script: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceResult:
    """One resource that a converge looked at; `status` is `updated`, `unchanged`, `skipped` or `failed`."""

    type: str
    name: str
    status: str
    duration_s: float = 0.0


@dataclass(frozen=True)
class ConvergeResult:
    """What one converge did."""

    resources: tuple[ResourceResult, ...] = ()

    @property
    def updated(self) -> tuple[ResourceResult, ...]:
        return tuple(resource for resource in self.resources if resource.status == "updated")


class Configurator(Protocol):
    """Brings a node into the wanted state. Called for several nodes at once; may be repeated on the same node."""

    @property
    def name(self) -> str:
        """`chef` or `script`, as `configure: {with: …}` names it."""

    def available(self, connection: Connection, request: ConvergeRequest) -> str | None:
        """None when `converge` can work on this node, else the reason why not, for a person."""

    def converge(
        self, connection: Connection, request: ConvergeRequest, *, limits: Limits, output: Sink
    ) -> ConvergeResult:
        """Converge once.

        Errors: StageFailed (the repository's recipe or script is bad), PermanentError (no client can be had),
        TransientError (the node was lost), LimitExceeded.
        """
