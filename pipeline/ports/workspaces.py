"""Workspaces: scratch directories on the worker."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol


class Workspaces(Protocol):
    """Any number of callers at once."""

    def scratch(self, name: str) -> AbstractContextManager[str]:
        """A fresh, empty, private directory, gone with all its contents afterwards."""

    def sweep(self, older_than_s: float) -> None:
        """Remove what workers that were killed left behind."""
