"""Questions that several adapters ask of a cloud, and how many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

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


def zones_of(connection: Connection) -> frozenset[str]:
    """The availability zones, those among them that take no servers now."""
    return frozenset(zone.name for zone in connection.compute.availability_zones())
