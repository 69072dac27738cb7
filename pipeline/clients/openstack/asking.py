"""Questions that several adapters ask of a cloud, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    return [whole_server(one) for one in connection.compute.servers(details=details, all_projects=everybody)]


def whole_server(server: Any) -> Any:
    """A server as Nova shows it; TransientError when it is in a part that does not answer."""
    if server.name is None:
        raise TransientError(f"Nova cannot reach its part with server {server.id} now")
    return server


def zones_of(connection: Connection) -> Mapping[str, bool]:
    """The availability zones, and whether each takes servers now."""
    return {zone.name: bool(zone.state.get("available", False)) for zone in connection.compute.availability_zones()}
