"""Snapshots are kept by what makes a provider's nodes, where it can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.domain.snapshots import Snapshot


class Snapshots(Protocol):
    """The snapshots of one provider. Any number of callers at once. What is known of them stands at the provider alone.

    Every method may raise TransientError (again later) and PermanentError.
    """

    def take(self, wish: Snapshot) -> Snapshot:
        """Ask for an image of the disk that a node has now, and return it as it is then, mostly still being saved.

        The node goes on running. NotFound when it is not there. The name must not be taken.
        """

    def all(self) -> Sequence[Snapshot]:
        """Those of this deployment, of every project."""

    def users(self, snapshot: Snapshot) -> Sequence[str]:
        """What was made of it and is there now, in words."""

    def remove(self, snapshot: Snapshot) -> None:
        """Remove it; one that is gone is no error."""

    def close(self) -> None:
        """Give back connections; it is not used afterwards."""
