"""How an environment's nodes are connected, what is open to the outside, and what a project sets of its servers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Network:
    """A network beside the one that every environment has. `shared`: the provider's network of that name, which others
    made; else the environment has one of its own, over `cidr`.
    """

    name: str
    cidr: str = ""
    shared: str = ""


@dataclass(frozen=True)
class Attachment:
    """A node's place in a further network; without a fixed `address` the network gives it one."""

    network: str
    address: str = ""


@dataclass(frozen=True)
class Opening:
    """Ports `first` to `last` of a `protocol` (tcp, udp, icmp: there they are 0) that `source`, a CIDR, may reach."""

    protocol: str
    first: int
    last: int
    source: str = "0.0.0.0/0"


@dataclass(frozen=True)
class Wiring:
    """One node's connections, beside the environment's own network, inside which everything is open.

    `virtual_address`: an address of that network which moves between the nodes that name it, and that each of them may
    use. `floating`: it is reachable from outside at an address of its own.
    """

    attachments: tuple[Attachment, ...] = ()
    openings: tuple[Opening, ...] = ()
    virtual_address: str = ""
    floating: bool = False


@dataclass(frozen=True)
class Custom:
    """What a project sets of its servers where the operator lets it: a flavor by its name instead of one that fits,
    more metadata, user data that runs at the first boot, extra specs of the flavor.
    """

    flavor: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""
    extra_specs: Mapping[str, str] = field(default_factory=dict)
