"""What the cloud has from the start: a catalog, zones, hardware types, images, networks, and two ordinary projects."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import openstack
from openstack.connection import Connection
from openstack.exceptions import ConflictException, NotFoundException
from openstack.identity.v3._proxy import Proxy as Identity

from tests.openstack.cloud.config import SERVICES
from tests.openstack.cloud.state import HOST, PASSWORD, REGION, State

TYPES = {
    "nova": ("compute", "/v2.1"),
    "neutron": ("network", ""),
    "glance": ("image", ""),
    "placement": ("placement", ""),
}
#: Ordinary projects, and what they may have: ours is the one whose limits tests run into.
PROJECTS = {"greenroom": {"ports": 80}, "neighbour": {}}
FLAVORS = (("m1.tiny", 1, 512, 5), ("m1.small", 1, 2048, 20), ("m1.medium", 2, 4096, 40))
#: The range outside, of which the machine itself has the gateway's address.
PUBLIC, GATEWAY = "172.24.4.0/24", "172.24.4.1"
WITHIN_S = 120.0


def connect(state: State, user: str, project: str) -> Connection:
    auth = {
        "auth_url": f"{state.url('keystone')}/v3",
        "username": user,
        "password": PASSWORD,
        "project_name": project,
        "user_domain_name": "Default",
        "project_domain_name": "Default",
    }
    return openstack.connect(load_yaml_config=False, load_envvars=False, auth=auth, region_name=REGION)


def identity_of(cloud: Connection) -> Identity:
    return cast("Identity", cloud.identity)


def make_catalog(state: State) -> None:
    """Services, their users and their endpoints; the entries of `clouds.yaml` come last, when all is there."""
    identity = identity_of(connect(state, "admin", "admin"))
    project = identity.find_project("service") or identity.create_project(name="service", domain_id="default")
    role = identity.find_role("service") or identity.create_role(name="service")
    roles = [role, identity.find_role("admin", ignore_missing=False)]
    for name in SERVICES:
        user = identity.find_user(name) or identity.create_user(name=name, password=PASSWORD, domain_id="default")
        for one in roles:
            identity.assign_project_role_to_user(project, user, one)
    have = {service.type for service in identity.services()}
    for name, (kind, path) in TYPES.items():
        if kind not in have:
            service = identity.create_service(name=name, type=kind)
            for interface in ("public", "internal", "admin"):
                url = f"http://{HOST}:{getattr(state.ports, name)}{path}"
                identity.create_endpoint(service_id=service.id, interface=interface, url=url, region_id=REGION)


def make_content(state: State, posing: Sequence[str]) -> None:
    """Flavors, networks, projects and zones, and `clouds.yaml` at last."""
    cloud = connect(state, "admin", "admin")
    known = {flavor.name for flavor in cloud.compute.flavors()}
    for name, vcpus, ram, disk in FLAVORS:
        if name not in known:
            cloud.compute.create_flavor(name=name, vcpus=vcpus, ram=ram, disk=disk)
    if cloud.image.find_image("dummy") is None:
        cloud.create_image(
            "dummy", data=b"\0" * 1024, disk_format="raw", container_format="bare", visibility="public", wait=True
        )
    _make_public(cloud)
    for name, quota in PROJECTS.items():
        _make_project(state, cloud, name, quota)
    until_up(cloud, posing)
    zones: dict[str, Sequence[str]] = {
        "rack-A-1": [*posing[0::4], *posing[1::4]],
        "rack-A-2": [*posing[2::4], *posing[3::4]],
    }
    for zone, members in zones.items():
        aggregate(cloud, zone, members, zone)
    for hardware, members in (("X", posing[0::2]), ("Y", posing[1::2])):
        aggregate(cloud, f"hardware-{hardware}", members, None, hardware=hardware)
    _write_clouds(state)


def _make_public(cloud: Connection) -> None:
    network = cloud.network.find_network("public") or cloud.network.create_network(
        name="public", provider_network_type="flat", provider_physical_network="physnet1", is_router_external=True
    )
    pool = [{"start": "172.24.4.10", "end": "172.24.4.250"}]
    _subnet(cloud, network, PUBLIC, gateway_ip=GATEWAY, allocation_pools=pool)


def _make_project(state: State, cloud: Connection, name: str, quota: dict[str, int]) -> None:
    """A project with a user, a network and a way outside."""
    identity = identity_of(cloud)
    project = identity.find_project(name) or identity.create_project(name=name, domain_id="default")
    user = identity.find_user(name) or identity.create_user(
        name=name, password=PASSWORD, domain_id="default", default_project_id=project.id
    )
    identity.assign_project_role_to_user(project, user, identity.find_role("member", ignore_missing=False))
    if quota:
        cloud.network.update_quota(project.id, **quota)
    _make_way_outside(connect(state, name, name), name)


def _make_way_outside(own: Connection, name: str) -> None:
    network = own.network.find_network(f"{name}-net") or own.network.create_network(name=f"{name}-net")
    subnet = _subnet(own, network, "10.20.0.0/16")
    outside = {"network_id": own.network.find_network("public", ignore_missing=False).id}
    router = own.network.find_router(f"{name}-router") or own.network.create_router(
        name=f"{name}-router", external_gateway_info=outside
    )
    if not any(own.network.ports(device_id=router.id, network_id=network.id)):
        own.network.add_interface_to_router(router, subnet=subnet.id)


def _subnet(cloud: Connection, network: Any, cidr: str, **more: Any) -> Any:
    """The network's only one, of its name; without DHCP the config drive tells guests their addresses."""
    given = {"network_id": network.id, "name": network.name, "ip_version": 4, "cidr": cidr, "is_dhcp_enabled": False}
    return cloud.network.find_subnet(network.name) or cloud.network.create_subnet(**given, **more)


def until_up(cloud: Connection, hypervisors: Sequence[str]) -> None:
    """Wait until they are up, and have told what they hold."""

    def up() -> bool:
        services = {one.host for one in cloud.compute.services(binary="nova-compute") if one.state == "up"}
        known = {one.service_details["host"] for one in cloud.compute.hypervisors(details=True)}
        return services & known >= set(hypervisors)

    until(up, f"hypervisors {', '.join(hypervisors)}")


def aggregate(cloud: Connection, name: str, members: Sequence[str], zone: str | None, **metadata: str) -> None:
    """Make an aggregate with these members; one can be added only when a cell knows it, a moment after it is up."""
    found = next((one for one in cloud.compute.aggregates() if one.name == name), None)
    made = found or cloud.compute.create_aggregate(name=name, **({"availability_zone": zone} if zone else {}))
    if metadata:
        cloud.compute.set_aggregate_metadata(made, metadata)
    for member in set(members) - set(made.hosts or []):
        until(lambda member=member: _added(cloud, made, member), f"{member} in aggregate {name}")  # type: ignore[misc]  # a lambda with a default has no type


def _added(cloud: Connection, made: Any, member: str) -> bool:
    try:
        cloud.compute.add_host_to_aggregate(made, member)
    except NotFoundException:
        return False
    except ConflictException:  # an answer that came late: it is there already
        return True
    return True


def until(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not look():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not there within {WITHIN_S:.0f} s")
        time.sleep(0.3)


def _write_clouds(state: State) -> None:
    """Readable by its owner alone, as such a file should be."""
    lines = ["clouds:"]
    for name in ("admin", *PROJECTS):
        lines += [
            f"  {name}:",
            f"    region_name: {REGION}",
            "    auth:",
            f"      auth_url: {state.url('keystone')}/v3",
            f"      username: {name}",
            f"      password: {PASSWORD}",
            f"      project_name: {name}",
            "      user_domain_name: Default",
            "      project_domain_name: Default",
        ]
    unfinished = state.clouds.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text("\n".join(lines) + "\n")
    os.replace(unfinished, state.clouds)  # noqa: PTH105  # in one step
