"""What stands in the project of an account beside machines: about ten calls, whatever there is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack import HostMark, Mark, described, hosted, marks, named_group, servers_of, told
from pipeline.domain.leftovers import Thing, ThingKind

if TYPE_CHECKING:
    from openstack.connection import Connection

#: The security group that every project has from its beginning.
USUAL = "default"


def things_of(connection: Connection, images: Collection[str]) -> Iterator[Thing]:
    """Objects of the account's own project; `images` are names that the provider's settings use.

    Keypairs are the user's own. What is only shared with the project is left out, and an administrator's account
    would see everybody's: so each list is for the one project.
    """
    project = str(connection.current_project_id)
    network, compute = connection.network, connection.compute

    def asked(what: str, list_: Callable[[], Iterable[Any]]) -> list[Any]:
        with told(f"listing {what} of project {project}"):
            return list(list_())

    servers = asked("servers", lambda: servers_of(connection))
    ports = asked("ports", lambda: network.ports(project_id=project))
    groups = asked("security groups", lambda: network.security_groups(project_id=project))
    yield from (_server(one, project) for one in servers)
    yield from (_described(ThingKind.PORT, one, project, used=_is_plugged(one)) for one in ports)
    for one in asked("floating addresses", lambda: network.ips(project_id=project)):
        address = _described(ThingKind.ADDRESS, one, project, one.floating_ip_address, used=bool(one.port_id))
        yield _routed(address, hosted(one.description))
    used = _used_groups(ports, groups)
    yield from (_described(ThingKind.SECURITY_GROUP, one, project, used=one.id in used) for one in groups)
    for one in asked("networks", lambda: network.networks(project_id=project)):
        yield _described(ThingKind.NETWORK, one, project, used=any(port.network_id == one.id for port in ports))
    keys = {one.key_name for one in servers}
    for one in asked("keypairs", compute.keypairs):
        yield Thing(ThingKind.KEYPAIR, str(one.name), str(one.name), project, used=one.name in keys)
    for one in asked("server groups", compute.server_groups):
        group = Thing(ThingKind.SERVER_GROUP, str(one.id), str(one.name), project, used=bool(one.member_ids))
        yield _marked(group, named_group(one.name))
    booted = {(one.image or {}).get("id") for one in servers}
    for one in asked("images", lambda: connection.image.images(visibility="private")):
        if one.owner_id == project:
            kept = marks.SNAPSHOT in (one.properties or {})  # until somebody removes it
            used_image = kept or one.id in booted or one.name in images
            yield Thing(ThingKind.IMAGE, str(one.id), str(one.name or ""), project, used=used_image)
    if connection.has_service("block-storage"):
        for one in asked("volumes", connection.block_storage.volumes):
            used_volume = bool(one.attachments) or one.status != "available"
            yield Thing(ThingKind.VOLUME, str(one.id), str(one.name or ""), project, used=used_volume)


def _server(one: Any, project: str) -> Thing:
    mark = marks.marked(one.metadata or {})
    return _marked(Thing(ThingKind.SERVER, str(one.id), str(one.name or ""), project, used=True), mark)


def _described(kind: ThingKind, one: Any, project: str, name: str = "", *, used: bool) -> Thing:
    return _marked(
        Thing(kind, str(one.id), name or str(one.name or ""), project, used=used), described(one.description)
    )


def _marked(thing: Thing, mark: Mark | None) -> Thing:
    return thing if mark is None else replace(thing, deployment=mark.deployment, environment_id=mark.environment_id)


def _routed(thing: Thing, mark: HostMark | None) -> Thing:
    if mark is None:
        return thing
    return replace(thing, deployment=mark.deployment, environment_id=mark.environment, host=mark.host)


def _is_plugged(port: Any) -> bool:
    return bool(port.device_id or port.device_owner)


def _used_groups(ports: Iterable[Any], groups: Iterable[Any]) -> frozenset[str]:
    """Security groups that a port is in, or a rule of another one names; and the usual one of the project."""
    of_ports = {id for port in ports for id in port.security_group_ids or ()}
    named = {
        rule["remote_group_id"]
        for group in groups
        for rule in group.security_group_rules or ()
        if rule.get("remote_group_id") not in {None, group.id}
    }
    usual = {group.id for group in groups if group.name == USUAL}
    return frozenset(of_ports | named | usual)
