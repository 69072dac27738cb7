"""What builds and ends the environments of one provider, on books in memory."""

from __future__ import annotations

from pipeline.adapters.clock import RandomIds
from pipeline.adapters.keys import SshKeys
from pipeline.envs.books import Books
from pipeline.envs.inventories import Inventories
from pipeline.envs.lifecycle import Lifecycle
from pipeline.envs.orders import Orders
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.envs.room import Room
from pipeline.envs.suspects import Suspects
from pipeline.ports.common import Clock
from pipeline.ports.secrets import Secrets


def lifecycle_of(
    provider: Provider,
    books: Books,
    removals: Removals,
    inventories: Inventories,
    clock: Clock,
    secrets: Secrets,
    deployment: str,
) -> Lifecycle:
    """The lifecycle of what a provider has for a deployment."""
    return Lifecycle(
        books,
        lambda _: provider,
        removals,
        Suspects(books, inventories, clock),
        Room(books, lambda _: provider, inventories, clock),
        Orders(secrets, SshKeys(), deployment),
        clock,
        RandomIds(),
    )
