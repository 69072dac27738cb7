"""Flavors, images, networks and compute services, as an account that sees all projects may change them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack import Account, connect, told
from pipeline.domain.cloud_acts import CloudObject, ObjectKind, the_one

if TYPE_CHECKING:
    from openstack.connection import Connection

#: Nova's name of the agent of a machine.
AGENT = "nova-compute"
#: What Neutron makes by itself on a network, and removes with it.
OWN_PORTS = frozenset({"network:dhcp", "network:distributed"})


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
        with told(f"asking for the service of {machine} in {self._admin}"):
            services = list(self._connection.compute.services(binary=AGENT, host=machine.name))
        return any(one.status == "enabled" for one in services)

    def set_service(self, machine: CloudObject, *, on: bool, reason: str) -> None:
        compute = self._connection.compute
        with told(f"{'enabling' if on else 'disabling'} the service of {machine} in {self._admin}"):
            if on:
                compute.enable_service(machine.id, machine.name, AGENT)
            else:
                compute.disable_service(machine.id, machine.name, AGENT, reason)

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
