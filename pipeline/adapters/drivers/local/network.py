"""Networks of environments: a namespace with a bridge each, a link to the machine, and a node's limits on its port.

Addresses: the environment 10.211.7.0/24 has its gateway 10.211.7.1 on the machine; nodes follow from 10.211.7.10.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import secrets
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.adapters.drivers.local.process import Commands, boot_id
from pipeline.adapters.drivers.local.protocol import Refused
from pipeline.adapters.drivers.local.records import RUN, EnvironmentRecord
from pipeline.domain.qos import QosProfile

NAMESPACES = Path("/run/netns")
FIRST_NODE = 10
#: A token bucket needs room for what arrives within one timer tick (4 ms), and for one large segment.
MIN_BURST = 64 * 1024
TICKS_PER_S = 250

MACHINE_RULES = """\
table inet {table}
delete table inet {table}
table inet {table} {{
  chain input {{
    type filter hook input priority -10; policy accept;
    iifname "{prefix}*" ct state established,related accept
    iifname "{prefix}*" drop
  }}
  chain forward {{
    type filter hook forward priority -10; policy accept;
    iifname "{prefix}*" drop
    oifname "{prefix}*" drop
  }}
}}
"""
ENVIRONMENT_RULES = """\
table bridge greenroom {{
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ether type arp accept
    ip saddr {subnet}.0/24 ip daddr {subnet}.0/24 accept
  }}
}}
"""


@dataclass(frozen=True)
class Network:
    """The networks of one deployment, within one range of addresses of the machine."""

    commands: Commands
    deployment: str
    range: ipaddress.IPv4Network

    @property
    def prefix(self) -> str:
        """How the names of this deployment's links on the machine begin; a name has at most 15 characters."""
        return "gr" + hashlib.sha256(self.deployment.encode()).hexdigest()[:6]

    def new_link(self) -> str:
        """A name never used before: the kernel forgets old ones late."""
        return self.prefix + secrets.token_hex(3)

    def namespace(self, environment_id: str) -> str:
        return f"greenroom.{self.deployment}.{environment_id}"

    def namespaces(self) -> list[str]:
        """Environments of this deployment that have a network namespace."""
        mark = self.namespace("")
        with contextlib.suppress(FileNotFoundError):
            return [entry.name.removeprefix(mark) for entry in os.scandir(NAMESPACES) if entry.name.startswith(mark)]
        return []

    def claim(self, environment_id: str) -> str:
        """Take a /24 that no environment of this machine has, whichever deployment it belongs to."""
        owner = f"{self.deployment}/{environment_id}/{boot_id()}"
        with machine_lock():
            taken = claims()
            for subnet, holder in taken.items():
                if holder == owner:
                    return subnet
            subnet = self._free(set(taken) | _routed())
            (RUN / "subnets" / subnet).symlink_to(owner)
            self._keep_inside()
        return subnet

    def _free(self, taken: set[str]) -> str:
        subnets = [str(subnet.network_address).rpartition(".")[0] for subnet in self.range.subnets(new_prefix=24)]
        first = secrets.randbelow(len(subnets))  # a fresh one each time: nobody remembers its addresses
        for subnet in subnets[first:] + subnets[:first]:
            if subnet not in taken:
                return subnet
        raise Refused("capacity", f"all {len(subnets)} networks of {self.range} are in use by environments")

    def _keep_inside(self) -> None:
        """Let no packet for a node that is gone leave the machine."""
        if not _has_route(self.range):
            self.commands.run(["ip", "route", "replace", "blackhole", str(self.range)])

    def release(self, environment_id: str) -> None:
        """Give the environment's /24 back, and the route of the whole range after the last one."""
        with machine_lock():
            left = claims()
            for subnet, holder in list(left.items()):
                if holder.split("/")[:2] == [self.deployment, environment_id]:
                    (RUN / "subnets" / subnet).unlink()
                    del left[subnet]
            if not any(ipaddress.IPv4Address(f"{subnet}.0") in self.range for subnet in left) and _has_route(
                self.range
            ):
                self.commands.run(["ip", "route", "del", "blackhole", str(self.range)])

    def guard_machine(self) -> None:
        """Close the machine to nodes: they answer it, they never call it, and nothing is passed on for them."""
        rules = MACHINE_RULES.format(table=self._table, prefix=self.prefix)
        self.commands.run(["nft", "-f", "-"], text=rules)

    def unguard_machine(self) -> None:
        """Remove what `guard_machine` made, after the last environment."""
        self.commands.run(["nft", "-f", "-"], text=f"table inet {self._table}\ndelete table inet {self._table}\n")

    @property
    def _table(self) -> str:
        return f"greenroom-{self.deployment}"

    def set_up(self, record: EnvironmentRecord) -> None:
        """Make an environment's network, from nothing."""
        name = self.namespace(record.environment_id)
        self.commands.run(["ip", "-batch", "-"], text=_machine_side(name, record))
        self.commands.run(["ip", "-n", name, "-batch", "-"], text=_BRIDGE)
        rules = ENVIRONMENT_RULES.format(subnet=record.subnet)
        self.commands.run(["nsenter", f"--net={NAMESPACES / name}", "nft", "-f", "-"], text=rules)

    def tear_down(self, environment_id: str, link: str | None) -> None:
        """Remove an environment's network, also a half-made one."""
        if link and link_exists(link):
            with contextlib.suppress(Refused):  # it may vanish with its peer right now; `left` tells
                self.commands.run(["ip", "link", "del", link])
        if (NAMESPACES / self.namespace(environment_id)).exists():
            self.commands.run(["ip", "netns", "del", self.namespace(environment_id)])

    def left(self, environment_id: str, link: str | None, deadline: float) -> list[str]:
        """What of an environment's network is still there; waits for the kernel until the deadline (monotonic)."""
        while link and link_exists(link) and time.monotonic() < deadline:
            time.sleep(0.01)
        namespace = NAMESPACES / self.namespace(environment_id)
        left = [f"link {link}"] if link and link_exists(link) else []
        return left + ([f"network namespace {namespace}"] if namespace.exists() else [])

    def wire(self, record: EnvironmentRecord, node: str, pid: int, qos: QosProfile) -> None:
        """Plug a node, named by its first process, into its environment's bridge."""
        number = record.addresses[node]
        name = self.namespace(record.environment_id)
        self.commands.run(["ip", "-n", name, "-batch", "-"], text=_port(record, number, pid, qos))
        if limits := _limits(number, qos):
            self.commands.run(["tc", "-n", name, "-batch", "-"], text=limits)
        inside = _node_side(record.subnet, number)
        self.commands.run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-batch", "-"], text=inside)

    def unwire(self, record: EnvironmentRecord, node: str) -> None:
        """Unplug a node; also one that was never plugged in."""
        name = self.namespace(record.environment_id)
        number = record.addresses.get(node)
        if number is None or not (NAMESPACES / name).exists():
            return
        for link in (f"v{number}", f"ifb{number}"):
            with contextlib.suppress(Refused):  # there is none, or its peer went a moment ago
                self.commands.run(["ip", "-n", name, "link", "del", link])


@contextlib.contextmanager
def machine_lock() -> Iterator[None]:
    """Be the only helper of this machine that changes what all deployments share."""
    (RUN / "subnets").mkdir(mode=0o755, parents=True, exist_ok=True)
    with (RUN / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def claims() -> dict[str, str]:
    """Networks in use and by whom (`deployment/environment/boot`); forgets those of an earlier boot."""
    found = {}
    for entry in os.scandir(RUN / "subnets"):
        holder = str(Path(entry.path).readlink())
        if holder.endswith(f"/{boot_id()}"):
            found[entry.name] = holder
        else:
            Path(entry.path).unlink()
    return found


def link_exists(name: str) -> bool:
    try:
        return socket.if_nametoindex(name) > 0
    except OSError:
        return False


def _routes() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/route").read_text().splitlines()[1:]]


def _destination(fields: list[str]) -> ipaddress.IPv4Network:
    address, mask = (socket.htonl(int(fields[column], 16)) for column in (1, 7))
    return ipaddress.IPv4Network((address, mask.bit_count()))


def _routed() -> set[str]:
    """The first three numbers of every /24 that the machine has a route to."""
    found = (_destination(fields) for fields in _routes())
    return {str(net.network_address).rpartition(".")[0] for net in found if net.prefixlen == 24}


def _has_route(range_: ipaddress.IPv4Network) -> bool:
    return any(_destination(fields) == range_ for fields in _routes())


def _machine_side(namespace: str, record: EnvironmentRecord) -> str:
    return (
        f"netns add {namespace}\n"
        f"link add {record.link} type veth peer name up0 netns {namespace}\n"
        f"addr add {record.subnet}.1/24 dev {record.link}\n"
        f"link set {record.link} addrgenmode none up\n"
    )


_BRIDGE = (
    "link set lo up\n"
    "link add br0 type bridge mcast_snooping 0\n"
    "link set br0 addrgenmode none up\n"
    "link set up0 addrgenmode none master br0 up\n"
)


def _mac(subnet: str, number: int) -> str:
    """The same for each node that has the address, so that neighbours need not learn it again."""
    return "02:67:" + ":".join(f"{int(part):02x}" for part in f"{subnet}.{number}".split("."))


def _port(record: EnvironmentRecord, number: int, pid: int, qos: QosProfile) -> str:
    mac = _mac(record.subnet, number)
    lines = [
        f"link add v{number} type veth peer name eth0 address {mac} netns {pid}",
        f"link set v{number} addrgenmode none master br0 up",
    ]
    if qos.network_out:
        lines += [f"link add ifb{number} type ifb", f"link set ifb{number} addrgenmode none up"]
    return "\n".join(lines) + "\n"


def _limits(number: int, qos: QosProfile) -> str:
    """Token buckets: what the node receives leaves at its port; what it sends is turned to an IFB first."""
    lines = []
    if qos.network_in:
        lines.append(f"qdisc add dev v{number} root {_bucket(qos.network_in)}")
    if qos.network_out:
        lines += [
            f"qdisc add dev v{number} handle ffff: ingress",
            f"filter add dev v{number} parent ffff: protocol all prio 1 {_TO_IFB} ifb{number}",
            f"qdisc add dev ifb{number} root {_bucket(qos.network_out)}",
        ]
    return "".join(line + "\n" for line in lines)


_TO_IFB = "u32 match u32 0 0 action mirred egress redirect dev"


def _bucket(bits_per_s: int) -> str:
    burst = max(MIN_BURST, bits_per_s // 8 // TICKS_PER_S)
    return f"tbf rate {bits_per_s}bit burst {burst} latency 50ms"


def _node_side(subnet: str, number: int) -> str:
    return (
        f"link set lo up\naddr add {subnet}.{number}/24 dev eth0\nlink set eth0 up\nroute add default via {subnet}.1\n"
    )
