"""One account's part of a cloud, as the modules beside this one work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.adapters.drivers.openstack.looks import Looks
from pipeline.adapters.drivers.openstack.names import Names
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Mark, servers_of, told

if TYPE_CHECKING:
    from openstack.connection import Connection


@dataclass(frozen=True)
class Cloud:
    """The connection of an account, what is known by name there, what waits there, and what the operator says."""

    connection: Connection
    terms: Terms
    names: Names = field(init=False)
    looks: Looks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", Names(self.connection))
        object.__setattr__(self, "looks", Looks(self.servers))

    def servers(self) -> list[Any]:
        """The servers of the account, by one call; TransientError when Nova cannot tell of all of them."""
        with told("listing servers"):
            return servers_of(self.connection)

    def described(self, list_: Callable[..., Iterable[Any]], what: str, mark: Mark) -> list[Any]:
        """Things of one kind that bear a mark in their description, by one call."""
        with told(f"listing {what} of environment {mark.environment_id}"):
            return [one for one in list_(description=mark.description) if one.description == mark.description]
