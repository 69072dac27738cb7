"""Drivers create, list and destroy the nodes of one provider."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Custom, Network, Wiring
from pipeline.ports.common import Secret


@dataclass(frozen=True)
class NodeRequest:
    """One node to create. `name` is unique in its environment (`web-0`); the node's hostname is the same.

    `machine` and `zone` are where placement put it: a driver that can choose builds it there. `per_machine`: at most so
    many nodes of its role stand on one machine, for a provider that chooses machines itself; 0: as few as there is room
    for, None: any number.
    """

    name: str
    role: str
    image: str
    resources: Resources
    qos: QosProfile
    host_key: Secret
    host_public_key: str
    machine: str = ""
    zone: str = ""
    wiring: Wiring = field(default_factory=Wiring)
    custom: Custom = field(default_factory=Custom)
    per_machine: int | None = None


@dataclass(frozen=True)
class EnvironmentRequest:
    """Nodes to create together. `authorized_key` is one public OpenSSH line for root's login,
    and `login_keys` are further ones.

    `project` is whose it is: a driver may hold an account of its own for it. `networks` are those that nodes are
    attached to beside the environment's own. `owner` is the run that waits for it, if one does: what a driver's tools
    say belongs into its logs.

    `deployment`, `environment_id`, the node's name and `ends_at` (epoch seconds) are the ownership mark that
    every created thing carries from its creation on. `mark_end` brings the environment's end up to date later.
    """

    deployment: str
    environment_id: str
    service: str
    authorized_key: str
    ends_at: float
    nodes: tuple[NodeRequest, ...]
    project: str = ""
    networks: tuple[Network, ...] = ()
    login_keys: tuple[str, ...] = ()
    owner: str = ""


class NodeStatus(StrEnum):
    """What the driver knows of a node."""

    BUILDING = "building"
    ACTIVE = "active"
    ERROR = "error"


@dataclass(frozen=True)
class NodeView:
    """One node as it is in the world; `fault` is the provider's own text when the status is error.

    `machine` is where it stands, empty where the provider does not tell. `inside_address` is where the other nodes of
    its environment reach it; empty: where everybody does. `addresses` are those in further networks, by their names.
    `host_public_key` is the one that it shows where the driver does not install the request's. `full`: the fault is no
    more than that there was no room in a quota, which is waited for.
    """

    environment_id: str
    name: str
    driver_id: str
    status: NodeStatus
    address: str | None = None
    port: int = 22
    fault: str = ""
    machine: str = ""
    inside_address: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    host_public_key: str = ""
    full: bool = False


@dataclass(frozen=True)
class OwnedEnvironment:
    """An environment of which anything exists, be it only a network; `ends_at` as marked, 0 if unreadable."""

    environment_id: str
    ends_at: float


@dataclass(frozen=True)
class Listing:
    """All that this deployment owns at the provider."""

    nodes: tuple[NodeView, ...] = ()
    environments: tuple[OwnedEnvironment, ...] = ()


class Can(StrEnum):
    """What not every driver can do for a node."""

    NETWORKS = "networks"
    VIRTUAL_ADDRESS = "virtual-address"
    FLOATING = "floating"
    CUSTOM = "custom"
    SNAPSHOTS = "snapshots"


@dataclass(frozen=True)
class Capabilities:
    """What a driver's nodes can do. Without `login`, `active` is enough to be in service. `custom`: what the operator
    lets projects set of their servers, as `domain.allowances` reads it. Without `exact`, a node stands somewhere in the
    zone that placement chose, and not for certain on the machine.
    """

    login: bool = True
    images: Collection[str] = field(default_factory=tuple)
    can: frozenset[Can] = frozenset()
    custom: frozenset[str] = frozenset()
    exact: bool = True


class Driver(Protocol):
    """One provider's servers.

    Every method may be called from several threads and processes at once, and any call may be repeated after a
    crash in the middle of an earlier one. Errors: CapacityError (wait), TransientError (again), PermanentError.
    """

    @property
    def capabilities(self) -> Capabilities:
        """Constant for the life of the driver, but for images, which may come and go with machines."""

    def create(self, request: EnvironmentRequest) -> None:
        """Ask for the nodes and return; they may still be building, or be ready already.

        Idempotent: a node of that environment and name which exists is left alone. When it raises, nothing, a
        part or all may exist; `list` tells, and `destroy` removes it.
        """

    def nodes(self) -> Sequence[NodeView]:
        """All nodes of this deployment, by one call of the provider: whoever waits for nodes asks again and again."""

    def list(self) -> Listing:
        """All of this deployment, also what is no node, in as few calls as the provider allows."""

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        """Remove these nodes (None: all, and everything else of the environment), and return when they are gone.

        Needs no record of ours; removing what is not there succeeds.
        """

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Let the environment's mark tell this end (epoch seconds), so that `list` shows it; nodes stay untouched.

        Called when the time of an environment became another one, now and then, and not while it is built or taken
        back. Another deployment's, and what is not there, is left alone.
        """

    def inventory(self) -> Inventory | None:
        """The machines as the provider knows them now; None where they have to be declared."""

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:
        """What these machines bear, by name: those that the provider measures, and nothing where it measures none.

        Called every few seconds. A measurement's time is the begin of what it is the mean of.
        """

    def check(self) -> Sequence[str]:
        """What the settings name and the provider does not have: one sentence each, with what to do about it."""

    def close(self) -> None:
        """Give back connections; the driver is not used afterwards."""
