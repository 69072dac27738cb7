"""What an operator says of a provider on OpenStack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.ports.drivers import Can, Capabilities


@dataclass(frozen=True)
class Terms:
    """`network` is the one that every node is attached to, `external_network` where floating addresses come from.

    `images` names the cloud's images as blueprints do. `custom`: what projects may set of their servers.
    `create_flavors`: the account may make flavors, so promises are
    made part of one. `choose_machine`: it may name the hypervisor. `login` is false where nobody can log in to servers.
    """

    network: str
    external_network: str = ""
    floating: bool = False
    ssh_from: tuple[str, ...] = ("0.0.0.0/0",)
    images: Mapping[str, str] = field(default_factory=dict)
    custom: frozenset[str] = frozenset()
    create_flavors: bool = False
    choose_machine: bool = False
    login: bool = True

    def capabilities(self) -> Capabilities:
        """What nodes can have, whoever makes them."""
        can = frozenset(Can) if self.external_network else frozenset(Can) - {Can.FLOATING}
        return Capabilities(self.login, tuple(self.images), can, self.custom, self.choose_machine)
