"""Whether the quota has room for nodes, asked before them where what makes them would not tell why they failed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.flavors import Flavor
from pipeline.clients.openstack import told
from pipeline.domain.errors import CapacityError

Need = tuple[str, int, int, int]


def admit(cloud: Cloud, flavors: Sequence[Flavor], ports: int) -> None:
    """CapacityError when servers of these flavors, with so many ports, would exceed the quota of the project."""
    with told("reading the quota"):
        needs = [*_servers(cloud, flavors), _ports(cloud, ports)]
    for what, limit, used, wanted in needs:
        if 0 <= limit < used + wanted:
            raise CapacityError(f"{wanted} {what} are wanted, and the quota has {max(0, limit - used)} of {limit} left")


def _servers(cloud: Cloud, flavors: Sequence[Flavor]) -> Iterator[Need]:
    told_ = cloud.connection.compute.get_limits().absolute
    yield "servers", told_.instances, told_.instances_used, len(flavors)
    yield "cores", told_.total_cores, told_.total_cores_used, sum(one.vcpus for one in flavors)
    yield "MiB of memory", told_.total_ram, told_.total_ram_used, sum(one.ram for one in flavors)


def _ports(cloud: Cloud, wanted: int) -> Need:
    project = str(cloud.connection.current_project_id)
    ports = cloud.connection.network.get_quota(project, details=True).ports
    return "ports", ports["limit"], ports["used"], wanted
