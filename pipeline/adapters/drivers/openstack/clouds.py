"""The clouds of a provider: that of its own account, and those of projects that have an account of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Connections


class Clouds:
    """Each is connected to when it is first asked for; any number of threads at once."""

    def __init__(self, account: Account, projects: Mapping[str, Account], terms: Terms) -> None:
        self._account = account
        self._projects = projects
        self._known = Connections(lambda connection: Cloud(connection, terms))

    def of(self, project: str) -> Cloud:
        """Where a project's servers are."""
        return self._known.of(self._projects.get(project, self._account))

    def all(self) -> Sequence[Cloud]:
        """One for every account."""
        return [self.at(account) for account in self.accounts()]

    def accounts(self) -> Sequence[Account]:
        """Every account once: two projects may share one."""
        return list(dict.fromkeys((self._account, *self._projects.values())))

    def at(self, account: Account) -> Cloud:
        """Where an account's servers are."""
        return self._known.of(account)

    def close(self) -> None:
        """Give back connections."""
        self._known.close()
