"""What can be known to be wrong before anybody asks for a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.clouds import Clouds
from pipeline.clients.openstack import told
from pipeline.domain.errors import PermanentError

#: What a node needs at least one of, by the cloud's own names of its limits: Nova's, and Neutron's.
NEEDED = {"instances": "servers", "total_cores": "cores", "total_ram": "MiB of memory"}
WIRED = {"ports": "ports", "security_groups": "security groups"}
FLOATING = {"floating_ips": "floating addresses"}


def mistakes(cloud: Cloud) -> Iterator[str]:
    """One sentence for each thing that the settings name and the cloud does not have, or has several of."""
    terms, names = cloud.terms, cloud.names
    names.forget()
    yield from _wrong(names.network, terms.network)
    if terms.external_network:
        yield from _wrong(names.external, terms.external_network)
    for image in sorted(set(terms.images.values())):
        yield from _wrong(names.image, image)
    if not names.flavors():
        yield "there is no flavor that the account may use: make one"
    yield from _full(cloud)


def mistakes_of(clouds: Clouds) -> Sequence[str]:
    """The same of every account, which is named."""
    return [f"{account}: {mistake}" for account in clouds.accounts() for mistake in mistakes(clouds.at(account))]


def _wrong(look: Callable[[str], str], name: str) -> Iterator[str]:
    try:
        look(name)
    except PermanentError as error:
        yield str(error)


def _full(cloud: Cloud) -> Iterator[str]:
    """Quotas in which no node has room, whatever goes."""
    project = str(cloud.connection.current_project_id)
    with told("reading the quota"):
        limits = cloud.connection.compute.get_limits().absolute
        wires = cloud.connection.network.get_quota(project)
    for quota, needed in ((limits, NEEDED), (wires, WIRED | (FLOATING if cloud.terms.floating else {}))):
        for name, what in needed.items():
            if getattr(quota, name, None) == 0:
                yield f"the quota of project {project} has no {what}: ask the cloud's operator for some"
