"""Flavors, images, networks and compute services, as an account that sees all projects may change them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.adapters.clouds.openstack.servers import server_of
from pipeline.clients.openstack import Account, connect, servers_of, told, whole_server
from pipeline.domain.cloud_acts import CloudObject, ObjectKind, the_one
from pipeline.domain.drift import Server
from pipeline.domain.moving_off import UNCONFIRMED, How, Trial

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Nova's name of the agent of a machine.
AGENT = "nova-compute"
#: What Neutron makes by itself on a network, and removes with it.
OWN_PORTS = frozenset({"network:dhcp", "network:distributed"})
#: Nova's words for migrations that went wrong, and for those that went well.
FAILED = frozenset({"error", "failed", "cancelled", "reverted"})
ENDED = frozenset({"done", "completed", "confirmed"})
#: Nova's version from which on it tells of a live migration what came of it, and not while somebody waits.
AT_ONCE = "2.34"
#: Nova's names of what was asked of a server in order to move it.
MOVES = frozenset({"live-migration", "migrate", "evacuate"})


class OpenStackEstate:
    """`Estate` by an administrator's account; volumes that were made of an image are not asked for (Cinder)."""

    def __init__(self, admin: Account) -> None:
        self._admin = admin

    @cached_property
    def _connection(self) -> Connection:
        return connect(self._admin)

    def find(self, kind: ObjectKind, name: str) -> CloudObject:
        with told(f"looking for {kind} {name} in {self._admin}"):
            found = [CloudObject(kind, one.id, _name(kind, one)) for one in self._all(kind)]
        by_id = [one for one in found if one.id == name]
        return the_one(kind, name, by_id or [one for one in found if one.name == name])

    def users(self, one: CloudObject) -> Sequence[str]:
        with told(f"asking what uses {one} in {self._admin}"):
            if one.kind is ObjectKind.NETWORK:
                ports = self._connection.network.ports(network_id=one.id)
                return [_port(port) for port in ports if port.device_owner not in OWN_PORTS]
            asked: Mapping[str, Any] = {
                ObjectKind.FLAVOR: {"flavor": one.id},
                ObjectKind.IMAGE: {"image": one.id},
                ObjectKind.MACHINE: {"compute_host": one.name},
            }[one.kind]
            servers_of(self._connection, everybody=True, details=False)  # the next list passes over what is silent
            return [_server(server) for server in self._connection.compute.servers(all_projects=True, **asked)]

    def delete(self, one: CloudObject) -> None:
        deletes: Mapping[ObjectKind, Callable[[str], object]] = {
            ObjectKind.FLAVOR: self._connection.compute.delete_flavor,
            ObjectKind.IMAGE: self._connection.image.delete_image,
            ObjectKind.NETWORK: self._connection.network.delete_network,
        }
        with told(f"deleting {one} in {self._admin}"):
            deletes[one.kind](one.id)

    def stands(self, one: CloudObject) -> bool:
        with told(f"looking for {one} in {self._admin}"):
            return any(found.id == one.id for found in self._all(one.kind))

    def in_service(self, machine: CloudObject) -> bool:
        return any(one.status == "enabled" for one in self._services(machine))

    def set_service(self, machine: CloudObject, *, on: bool, reason: str) -> None:
        compute = self._connection.compute
        with told(f"{'enabling' if on else 'disabling'} the service of {machine} in {self._admin}"):
            if on:
                if any(one.is_forced_down for one in self._services(machine)):
                    compute.update_service_forced_down(machine.id, machine.name, AGENT, forced=False)
                compute.enable_service(machine.id, machine.name, AGENT)
            else:
                compute.disable_service(machine.id, machine.name, AGENT, reason)

    def alive(self, machine: CloudObject) -> bool:
        return any(one.state == "up" for one in self._services(machine))

    def count_as_dead(self, machine: CloudObject) -> None:
        with told(f"forcing the service of {machine} down in {self._admin}"):
            self._connection.compute.update_service_forced_down(machine.id, machine.name, AGENT, forced=True)

    def servers_on(self, machine: CloudObject) -> Sequence[Server]:
        with told(f"listing servers on {machine} in {self._admin}"):
            found = self._connection.compute.servers(all_projects=True, compute_host=machine.name)
            return [server_of(one) for one in found]

    def server(self, id: str) -> Server | None:
        from openstack.exceptions import NotFoundException

        with told(f"looking for server {id} in {self._admin}"):
            try:
                return server_of(whole_server(self._connection.compute.get_server(id)))
            except NotFoundException:
                return None

    def move(self, id: str, how: How) -> None:
        compute = self._connection.compute
        tells: Mapping[How, Callable[[str], object]] = {
            How.LIVE: self._migrate_live,
            How.COLD: compute.migrate_server,
            How.REBUILD: compute.evacuate_server,
        }
        with told(f"{how} of server {id} in {self._admin}"):
            tells[how](id)

    def _migrate_live(self, id: str) -> None:
        """By the version from which on Nova answers at once; openstacksdk would wait for all checks."""
        from openstack.exceptions import raise_from_response

        body = {"os-migrateLive": {"host": None, "block_migration": "auto"}}
        answer = self._connection.compute.post(f"/servers/{id}/action", json=body, microversion=AT_ONCE)
        raise_from_response(answer)

    def confirm(self, id: str) -> None:
        from openstack.exceptions import BadRequestException

        with told(f"confirming the cold migration of server {id} in {self._admin}"):
            try:
                self._connection.compute.confirm_server_resize(id)
            except BadRequestException:
                server = self.server(id)
                if server is not None and server.status == UNCONFIRMED:
                    raise

    def last_trial(self, id: str) -> Trial | None:
        with told(f"asking how the move of server {id} went in {self._admin}"):
            found = list(self._connection.compute.migrations(server_id=id))
            if not found:
                return None
            last = max(found, key=lambda one: (one.created_at or "", one.id or 0))
            failed = last.status in FAILED
            return Trial(str(last.uuid), last.status in ENDED or failed, self._fault(id) if failed else "")

    def _fault(self, id: str) -> str:
        """What Nova says of its last act on a server that went wrong, the most telling part first."""
        compute = self._connection.compute
        for action in compute.server_actions(id):
            if action.action in MOVES:
                events = compute.get_server_action(action.request_id, id).events or []
                said = [str(one["details"]) for one in events if one.get("details")]
                return "; ".join(dict.fromkeys(said)) or str(action.message or "")
        return ""

    def _services(self, machine: CloudObject) -> Sequence[Any]:
        with told(f"asking for the service of {machine} in {self._admin}"):
            return list(self._connection.compute.services(binary=AGENT, host=machine.name))

    def close(self) -> None:
        if "_connection" in vars(self):
            self._connection.close()

    def _all(self, kind: ObjectKind) -> Iterable[Any]:
        cloud = self._connection
        lists: Mapping[ObjectKind, Callable[[], Iterable[Any]]] = {
            # neither public nor private alone: every one
            ObjectKind.FLAVOR: lambda: cloud.compute.flavors(is_public="None"),
            ObjectKind.IMAGE: cloud.image.images,
            ObjectKind.NETWORK: cloud.network.networks,
            ObjectKind.MACHINE: lambda: cloud.compute.services(binary=AGENT),
        }
        return lists[kind]()


def _name(kind: ObjectKind, one: Any) -> str:
    return str(one.host if kind is ObjectKind.MACHINE else one.name)


def _server(one: Any) -> str:
    return f"server {one.name} ({one.id}) of project {one.project_id}"


def _port(one: Any) -> str:
    return f"port {one.id} ({one.device_owner or 'of no server'}) of project {one.project_id}"
