"""Requested environments by the thousand, for the scheduler."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.rules import PlacementRules, Spread
from pipeline.envs.books import ENVIRONMENTS, Books
from pipeline.envs.providers import Provider
from pipeline.ports.common import Clock

WEB = RoleSpec("web", count=2, size="small", rules=PlacementRules(spread=Spread.MACHINE))
DB = RoleSpec("db", count=1, size="medium")
SPEC = EnvironmentSpec("debian-12", (WEB, DB))
SINGLE = EnvironmentSpec("debian-12", (RoleSpec("web"),))


def requested(id: str, spec: EnvironmentSpec, provider: str, now: float, project: str = "shop") -> Environment:
    return Environment(
        id=id,
        project=project,
        service="shop",
        owner="",
        provider=provider,
        state=EnvironmentState.REQUESTED,
        nodes=planned_nodes(spec),
        priority=Priority.PUSH,
        created_at=now,
        state_since=now,
        ends_at=now + 3600,
        rules=spec.rules,
    )


def ask(books: Books, environments: Iterable[Environment]) -> None:
    """Store requests, many in one commit."""
    puts = [ENVIRONMENTS.put(one.id, one, 0) for one in environments]
    for at in range(0, len(puts), 200):
        books.commit(*puts[at : at + 200])


def provider(name: str, clock: Clock, max_nodes: int = 1_000_000) -> Provider:
    """A provider that is never asked for a node."""
    return Provider(name, MemoryDriver(MemoryCloud(), "test"), MemoryTransport(clock), max_nodes=max_nodes)
