"""What can be known to be wrong before anybody asks for a node."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.clients.openstack import told
from pipeline.domain.errors import PermanentError

#: What a node needs at least one of, by the cloud's own names of its limits.
NEEDED = {"instances": "servers", "total_cores": "cores", "total_ram": "MiB of memory"}


def mistakes(cloud: Cloud) -> Iterator[str]:
    """One sentence for each thing that the settings name and the cloud does not have, or has several of."""
    terms, names = cloud.terms, cloud.names
    names.forget()
    for network in filter(None, (terms.network, terms.external_network)):
        yield from _wrong(names.network, network)
    for image in sorted(set(terms.images.values())):
        yield from _wrong(names.image, image)
    if not names.flavors():
        yield "there is no flavor that the account may use: make one"
    yield from _full(cloud)


def _wrong(look: Callable[[str], str], name: str) -> Iterator[str]:
    try:
        look(name)
    except PermanentError as error:
        yield str(error)


def _full(cloud: Cloud) -> Iterator[str]:
    """Quotas in which no node has room, whatever goes."""
    with told("reading the quota"):
        limits = cloud.connection.compute.get_limits().absolute
    for name, what in NEEDED.items():
        if getattr(limits, name, None) == 0:
            yield f"the quota of the project has no {what}: ask the cloud's operator for some"
