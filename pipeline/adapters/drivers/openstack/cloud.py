"""One account's part of a cloud, as the modules beside this one work in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.adapters.drivers.openstack.looks import Looks
from pipeline.adapters.drivers.openstack.names import Names
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Mark, told
from pipeline.domain.errors import TransientError

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
        """The servers of the account, by one call; TransientError when Nova cannot tell whose all of them are.

        Nova is not asked to choose among them: then it passes over those in a part of itself that does not answer.
        """
        with told("listing servers"):
            found = list(self.connection.compute.servers(details=True))
        # of such a part it tells no more than that there are servers
        untold = [one.id for one in found if one.metadata is None]
        if untold:
            raise TransientError(f"listing servers: Nova cannot reach its part with {', '.join(untold)} now")
        return found

    def described(self, list_: Callable[..., Iterable[Any]], what: str, mark: Mark) -> list[Any]:
        """Things of one kind that bear a mark in their description, by one call."""
        with told(f"listing {what} of environment {mark.environment_id}"):
            return [one for one in list_(description=mark.description) if one.description == mark.description]
