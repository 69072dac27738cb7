"""Routers send traffic to environments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol


class Router(Protocol):
    """One router. Any number of callers at once."""

    @property
    def name(self) -> str:
        """As people know it; constant."""

    def serving(self) -> Collection[str]:
        """Ids of the environments that it sends traffic to now. TransientError when it cannot be asked."""
