"""Nova and Placement asked for everything at once, in a handful of calls and two more for each machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pipeline.adapters.clouds.openstack.machines import machines_of
from pipeline.adapters.clouds.openstack.servers import server_of
from pipeline.adapters.clouds.openstack.things import things_of
from pipeline.clients.openstack import Account, Connections, servers_of, told, zones_of
from pipeline.domain.drift import Server
from pipeline.domain.leftovers import Thing
from pipeline.ports.clouds import Sight


class OpenStackCloud:
    """`Cloud` of a provider. `accounts` see their own projects' servers; `admin`, if there is one, sees everything.

    `images` are names of the cloud's images that the provider's settings use.
    """

    def __init__(self, accounts: Sequence[Account], admin: Account | None, images: Collection[str] = ()) -> None:
        self._accounts = tuple(dict.fromkeys(accounts))
        self._admin = admin
        self._images = frozenset(images)
        self._connections = Connections(lambda connection: connection)

    def look(self) -> Sight:
        zones = self._zones()
        if self._admin is None:
            servers = [one for account in self._accounts for one in self._servers(account)]
            return Sight(tuple({one.id: one for one in servers}.values()), zones=zones)
        servers = self._servers(self._admin, everybody=True)
        with told(f"reading the machines of {self._admin}"):
            inventory, used = machines_of(self._connections.of(self._admin))
        return Sight(tuple(servers), inventory, used, zones)

    def things(self) -> Sequence[Thing]:
        found = (one for account in self._accounts for one in things_of(self._connections.of(account), self._images))
        return tuple({(one.kind, one.id): one for one in found}.values())  # two accounts may be of one project

    def close(self) -> None:
        self._connections.close()

    def _zones(self) -> frozenset[str]:
        account = self._admin or self._accounts[0]
        with told(f"listing availability zones of {account}"):
            return frozenset(zones_of(self._connections.of(account)))

    def _servers(self, account: Account, *, everybody: bool = False) -> list[Server]:
        with told(f"listing all servers of {account}"):
            return [server_of(one) for one in servers_of(self._connections.of(account), everybody=everybody)]
