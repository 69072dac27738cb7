"""Questions that several adapters ask of a cloud, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.domain.errors import TransientError

if TYPE_CHECKING:
    from openstack.connection import Connection

T = TypeVar("T")
#: Calls of one act at a time; a connection keeps ten sockets a service.
AT_ONCE = 8


def each(act: Callable[[Any], T], things: Sequence[Any]) -> list[T]:
    """Do it to all of them, some at a time; afterwards raises what the first that failed raised."""
    if not things:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(things))) as pool:
        futures = [pool.submit(act, thing) for thing in things]
    return [future.result() for future in futures]


def servers_of(connection: Connection, *, everybody: bool = False, details: bool = True) -> list[Any]:
    """The servers of an account's project, or of everybody; TransientError when Nova cannot tell of all of them.

    Nova is not asked to choose among them: then it passes over those in a part of itself that does not answer. Of such
    a part it tells no more here than that there are servers, without their names.
    """
    found = list(connection.compute.servers(details=details, all_projects=everybody))
    untold = [one.id for one in found if one.name is None]
    if untold:
        raise TransientError(f"listing servers: Nova cannot reach its part with {', '.join(untold[:5])} now")
    return found


def zones_of(connection: Connection) -> frozenset[str]:
    """The availability zones, those among them that take no servers now."""
    return frozenset(zone.name for zone in connection.compute.availability_zones())
