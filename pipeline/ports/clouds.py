"""Clouds tell what there is beyond our own nodes: all servers that an account may see, and the machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.domain.drift import Server
from pipeline.domain.inventory import Inventory


@dataclass(frozen=True)
class Sight:
    """What a cloud shows at one time.

    `inventory` has what the cloud itself counts: nobody's use is taken off. It is None where the account may not see
    machines. `used`: what all servers, of whomever, take of a machine, by dimension. `zones` are those that take
    servers.
    """

    servers: tuple[Server, ...] = ()
    inventory: Inventory | None = None
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    zones: frozenset[str] = frozenset()


class Cloud(Protocol):
    """What a provider's cloud knows. Called about once a minute; by several processes at once, too."""

    def look(self) -> Sight:
        """What there is now, ours or not; servers first, so that one that comes meanwhile counts as somebody's.

        TransientError (again later), PermanentError.
        """

    def close(self) -> None:
        """Give back connections; it is not used afterwards."""
