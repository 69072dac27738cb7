"""How an environment's nodes are connected, what is open to the outside, and what a project sets of its servers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_OPENING = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?/(tcp|udp)", re.ASCII)
MOST_PORT = 65535
ANYWHERE = "0.0.0.0/0"
#: Nova takes 65535 bytes in base64; a part of a MIME message is in base64 within that, and Greenroom has a part, too.
USER_DATA_BYTES = 30_000


@dataclass(frozen=True)
class Network:
    """A network beside the one that every environment has. `shared`: the provider's network of that name, which others
    made; else the environment has one of its own, over `cidr`.
    """

    name: str
    cidr: str = ""
    shared: str = ""


@dataclass(frozen=True)
class Attachment:
    """A node's place in a further network; without a fixed `address` the network gives it one."""

    network: str
    address: str = ""


@dataclass(frozen=True)
class Opening:
    """Ports `first` to `last` of a `protocol` (tcp, udp, icmp: there they are 0) that `source`, a CIDR, may reach."""

    protocol: str
    first: int
    last: int
    source: str = ANYWHERE

    def __str__(self) -> str:
        """As a blueprint says it: `443/tcp`, `22/tcp from 10.0.0.0/8`."""
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        what = self.protocol if self.protocol == "icmp" else f"{ports}/{self.protocol}"
        return what if self.source == ANYWHERE else f"{what} from {self.source}"


@dataclass(frozen=True)
class Wiring:
    """One node's connections, beside the environment's own network, inside which everything is open.

    `virtual_address`: an address of that network which moves between the nodes that name it, and that each of them may
    use. `floating`: it is reachable from outside at an address of its own.
    """

    attachments: tuple[Attachment, ...] = ()
    openings: tuple[Opening, ...] = ()
    virtual_address: str = ""
    floating: bool = False


@dataclass(frozen=True)
class Custom:
    """What a project sets of its servers where the operator lets it: a flavor by its name instead of one that fits,
    more metadata, user data that runs at the first boot, extra specs of the flavor.
    """

    flavor: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    user_data: str = ""
    extra_specs: Mapping[str, str] = field(default_factory=dict)


def parse_opening(text: str, source: str = ANYWHERE) -> Opening:
    """Ports such as `443/tcp`, `8000-8010/udp` or `icmp`; ValueError for anything else."""
    if text == "icmp":
        return Opening("icmp", 0, 0, source)
    match = _OPENING.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if match is None or not 0 < first <= last <= MOST_PORT:
        raise ValueError(f"expected ports such as 443/tcp, 8000-8010/udp or icmp, got {text[:80]!r}")
    return Opening(match[3], first, last, source)


def parse_user_data(text: str) -> str:
    """What cloud-init reads, `USER_DATA_BYTES` at most; ValueError for anything else."""
    size = len(text.encode())
    if size > USER_DATA_BYTES:
        raise ValueError(f"expected at most {USER_DATA_BYTES} bytes, got {size}; let it fetch what is larger")
    if not text.startswith(("#!", "#cloud-config")):
        raise ValueError("expected a script (#!) or a #cloud-config: nobody would read anything else")
    return text


def parse_cidr(text: str) -> str:
    """A network such as `10.40.0.0/24`; ValueError for anything else, also for an address within one."""
    try:
        return str(ipaddress.ip_network(text))
    except ValueError as error:
        raise ValueError(f"expected a network such as 10.40.0.0/24, got {text[:80]!r}: {error}") from error


def parse_address(text: str) -> str:
    """An address such as `10.40.0.7`; ValueError for anything else."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(f"expected an address such as 10.40.0.7, got {text[:80]!r}") from error


def lies_in(address: str, cidr: str) -> bool:
    """Whether a node may have this address in a network; ValueError when one of them is none."""
    one, network = ipaddress.ip_address(address), ipaddress.ip_network(cidr)
    return one in network and one not in _nobodys(network)


def room_in(cidr: str) -> int:
    """Addresses that nodes may have in a network; ValueError when it is none."""
    network = ipaddress.ip_network(cidr)
    return network.num_addresses - len(_nobodys(network))


def overlap(one: str, other: str) -> bool:
    """Whether two networks have an address in common; ValueError when one of them is none."""
    first, second = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return first.version == second.version and first.overlaps(second)


def _nobodys(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> tuple[object, ...]:
    """Addresses that mean the network, or all nodes in it (RFC 919, RFC 4291 2.6.1); two are too few to give any away
    (RFC 3021, RFC 6164).
    """
    if network.num_addresses <= 2:  # said above
        return ()
    if network.version == 4:  # a version is its own name
        return network.network_address, network.broadcast_address
    return (network.network_address,)
