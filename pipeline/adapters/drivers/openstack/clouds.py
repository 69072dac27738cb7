"""The clouds of a provider: that of its own account, and those of projects that have an account of their own."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, connect


class Clouds:
    """Each is connected to when it is first asked for; any number of threads at once."""

    def __init__(self, account: Account, projects: Mapping[str, Account], terms: Terms) -> None:
        self._account = account
        self._projects = projects
        self._terms = terms
        self._known: dict[Account, Cloud] = {}
        self._connecting = threading.Lock()

    def of(self, project: str) -> Cloud:
        """Where a project's servers are."""
        return self._cloud(self._projects.get(project, self._account))

    def all(self) -> Sequence[Cloud]:
        """One for every account."""
        return [self._cloud(account) for account in self.accounts()]

    def accounts(self) -> Sequence[Account]:
        """Every account once: two projects may share one."""
        return list(dict.fromkeys((self._account, *self._projects.values())))

    def at(self, account: Account) -> Cloud:
        """Where an account's servers are."""
        return self._cloud(account)

    def close(self) -> None:
        """Give back connections."""
        for cloud in self._known.values():
            cloud.connection.close()
        self._known.clear()

    def _cloud(self, account: Account) -> Cloud:
        with self._connecting:
            if account not in self._known:
                self._known[account] = Cloud(connect(account), self._terms)
            return self._known[account]
