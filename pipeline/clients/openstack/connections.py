"""Connections to the accounts of a provider, each made once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

from pipeline.clients.openstack.account import Account, connect

if TYPE_CHECKING:
    from openstack.connection import Connection

T = TypeVar("T")


class Connections(Generic[T]):
    """An account is connected to when it is first asked for; any number of threads at once.

    `view` makes of a connection what is worked with, and kept with it.
    """

    def __init__(self, view: Callable[[Connection], T]) -> None:
        self._view = view
        self._known: dict[Account, tuple[Connection, T]] = {}
        self._connecting = threading.Lock()

    def of(self, account: Account) -> T:
        """The view of an account's connection. PermanentError where the account is not described well."""
        with self._connecting:
            if account not in self._known:
                connection = connect(account)
                self._known[account] = connection, self._view(connection)
            return self._known[account][1]

    def close(self) -> None:
        """Give all back; whoever asks later is connected anew."""
        with self._connecting:
            for connection, _ in self._known.values():
                connection.close()
            self._known.clear()
