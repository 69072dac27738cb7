"""Servers: asked for, and as the cloud shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.adapters.drivers.openstack import flavors
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.flavors import Flavor
from pipeline.adapters.drivers.openstack.userdata import user_data
from pipeline.adapters.drivers.openstack.wires import Wires
from pipeline.clients.openstack import is_full, marks, told, whole
from pipeline.clients.openstack.marks import Mark
from pipeline.domain.allowances import not_allowed
from pipeline.domain.errors import PermanentError
from pipeline.domain.snapshots import named
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView

#: Nova's words for a server that runs, or comes back by itself with what is on its disk. One whose state Nova does not
#: know was not seen to be down; one that is rebuilt is made of its image anew, and comes back as nobody configured it.
_RUNS = frozenset(
    {
        "ACTIVE", "MIGRATING", "REBOOT", "HARD_REBOOT", "PASSWORD", "RESIZE", "VERIFY_RESIZE", "REVERT_RESIZE",
        "UNKNOWN",
    }
)  # fmt: skip


def of_environment(cloud: Cloud, mark: Mark) -> list[Any]:
    """The servers that bear a mark."""
    return [one for one in cloud.servers() if marks.marked(one.metadata) == mark]


def check_custom(cloud: Cloud, node: NodeRequest) -> None:
    """PermanentError when the node's project sets what the operator does not let it."""
    refused = not_allowed(node.custom, cloud.terms.custom)
    if refused:
        raise PermanentError(f"node {node.name}: {refused}")


def image_of(cloud: Cloud, node: NodeRequest, deployment: str = "", project: str = "") -> str:
    """The id of a node's image; PermanentError names those that there are. Whose it is tells which snapshots it knows;
    without, it knows none.
    """
    if deployment and (snapshot := named(node.image)):
        return cloud.names.snapshot(snapshot, marks.snapshot_image(deployment, project, snapshot))
    known = cloud.terms.images
    if known and node.image not in known:
        raise PermanentError(
            f"node {node.name}: there is no image {node.image!r}; there are: {', '.join(sorted(known))}"
        )
    return cloud.names.image(known.get(node.image, node.image))


def flavor_of(cloud: Cloud, node: NodeRequest) -> Flavor:
    """The flavor of a node: the one it names, one that is made for it where that is allowed, or the best there is."""
    there = cloud.names.flavors()
    if node.custom.flavor:
        return _named(node, there)
    wish = flavors.wanted(node.resources, node.qos, node.custom.extra_specs)
    if cloud.terms.create_flavors and wish.extra_specs:
        return _made_flavor(cloud, wish, flavors.made_for(wish, there))
    found = flavors.best(wish, _having(node, there))
    if found is None:
        sizes = ", ".join((f"{wish.vcpus} vCPU", f"{wish.ram} MiB", f"{wish.disk} GiB", *_asked(node)))
        raise PermanentError(f"node {node.name}: no flavor has {sizes}; make one, or ask for a smaller size")
    return found


def _named(node: NodeRequest, there: Sequence[Flavor]) -> Flavor:
    found = [one for one in there if one.name == node.custom.flavor]
    if not found:
        known = ", ".join(sorted(one.name for one in there))
        raise PermanentError(f"node {node.name}: there is no flavor {node.custom.flavor!r}; there are: {known}")
    return _having(node, found)[0]


def _having(node: NodeRequest, there: Sequence[Flavor]) -> Sequence[Flavor]:
    """Those with the extra specs that the node's project sets; PermanentError when none has them all."""
    asked = _asked(node)
    found = flavors.having(node.custom.extra_specs, there)
    if asked and not found:
        which = f"flavor {node.custom.flavor} has not" if node.custom.flavor else "no flavor has"
        specs = ", ".join(asked)
        raise PermanentError(
            f"node {node.name}: {which} the extra specs {specs}; make one with them, or leave them out"
        )
    return found


def _asked(node: NodeRequest) -> Sequence[str]:
    """The extra specs that the node's project sets, as they are told."""
    return [f"{name}={value}" for name, value in sorted(node.custom.extra_specs.items())]


def _made_flavor(cloud: Cloud, wish: flavors.Wanted, found: Flavor | None) -> Flavor:
    """It is whole, and stays for the next node of that shape."""
    if found is not None and found.extra_specs == wish.extra_specs:
        return found
    compute = cloud.connection.compute
    with told(f"creating flavor {wish.name}"):
        id = found.id if found is not None else _create_flavor(cloud, wish)
        compute.create_flavor_extra_specs(id, dict(wish.extra_specs))
    cloud.names.forget()
    return Flavor(id, wish.name, wish.vcpus, wish.ram, wish.disk, wish.extra_specs)


def _create_flavor(cloud: Cloud, wish: flavors.Wanted) -> str:
    """The id of a flavor that only the account's own project may use."""
    compute = cloud.connection.compute
    made = compute.create_flavor(name=wish.name, vcpus=wish.vcpus, ram=wish.ram, disk=wish.disk, is_public=False)
    id = whole(f"creating flavor {wish.name}", made.id)
    compute.flavor_add_tenant_access(id, str(cloud.connection.current_project_id))
    return id


def create(
    cloud: Cloud,
    mark: Mark,
    request: EnvironmentRequest,
    node: NodeRequest,
    wires: Wires,
    hint: Mapping[str, Any],
) -> str:
    """Ask for one server on its ports, and return its id; `hint` is what Nova's scheduler is told beside."""
    with told(f"creating server {node.name} of environment {mark.environment_id}"):
        made = cloud.connection.compute.create_server(
            name=node.name,
            image_id=image_of(cloud, node, mark.deployment, request.project),
            flavor_id=flavor_of(cloud, node).id,
            networks=[{"port": port} for port in wires.ports],
            config_drive=True,
            user_data=user_data(node, (request.authorized_key, *request.login_keys)),
            metadata={**owned(mark, request, node), **reached(wires)},
            **zone_of(cloud, node),
            **hint,
        )
    return str(made.id or "")


def zone_of(cloud: Cloud, node: NodeRequest) -> dict[str, str]:
    """Where placement put a node, as Nova is told; nothing where the cloud has no such zone."""
    if node.zone not in cloud.names.zones():
        return {}
    chosen = cloud.terms.choose_machine and node.machine
    return {"availability_zone": f"{node.zone}:{node.machine}" if chosen else node.zone}


def owned(mark: Mark, request: EnvironmentRequest, node: NodeRequest) -> dict[str, str]:
    """The metadata that say whose a node is, and what its project adds, but for names that are ours."""
    return {
        **{name: value for name, value in node.custom.metadata.items() if not name.startswith(marks.OURS)},
        marks.DEPLOYMENT: mark.deployment,
        marks.ENVIRONMENT: mark.environment_id,
        marks.NODE: node.name,
        marks.ENDS_AT: f"{request.ends_at:.0f}",
    }


def reached(wires: Wires) -> dict[str, str]:
    """The metadata that say where a node is reached."""
    return {
        marks.ADDRESS: wires.address,
        marks.INSIDE: wires.inside,
        **{f"{marks.FURTHER}{network}": address for network, address in wires.further.items()},
    }


def views(found: Iterable[Any], deployment: str) -> list[NodeView]:
    """Servers of a deployment as nodes."""
    marked = ((one, marks.marked(one.metadata)) for one in found)
    return [view(one, mark) for one, mark in marked if mark is not None and mark.deployment == deployment]


def views_once(found: Iterable[Iterable[Any]], deployment: str) -> list[NodeView]:
    """The same of several accounts' lists, each server once: two accounts may be of one project."""
    return list({one.driver_id: one for list_ in found for one in views(list_, deployment)}.values())


def view(server: Any, mark: Mark) -> NodeView:
    """A server as a node: whatever neither builds nor runs is of no use to an environment."""
    status = _status(server)
    fault = _fault(server) if status is NodeStatus.ERROR else ""
    return NodeView(
        environment_id=mark.environment_id,
        name=server.metadata.get(marks.NODE, server.name),
        driver_id=server.id,
        status=status,
        address=server.metadata.get(marks.ADDRESS) or None,
        fault=fault,
        full=is_full(fault),
        machine=server.compute_host or "",
        inside_address=server.metadata.get(marks.INSIDE, ""),
        addresses={
            key.removeprefix(marks.FURTHER): address
            for key, address in server.metadata.items()
            if key.startswith(marks.FURTHER)
        },
    )


def _status(server: Any) -> NodeStatus:
    if _is_deleted(server):
        return NodeStatus.ERROR
    if server.status == "BUILD":
        return NodeStatus.BUILDING
    return NodeStatus.ACTIVE if server.status in _RUNS else NodeStatus.ERROR


def _is_deleted(server: Any) -> bool:
    """Whether somebody told Nova to delete it; its status stays what it was until it is gone."""
    return str(server.task_state or "").startswith("deleting")


def _fault(server: Any) -> str:
    said = (server.fault or {}).get("message", "")
    state = "being deleted" if _is_deleted(server) else server.status
    return f"server {server.id} is {state}" + (f": {said}" if said else "")
