"""Networks of environments: a bridge each, which bears the mark in its alias.

The environment 10.213.7.0/24 has 10.213.7.1 on the machine; nodes follow from 10.213.7.10. Nodes answer the machine
and call each other; they never call the machine, and nothing is passed on for them.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.vagrant.commands import machine_lock, run
from pipeline.domain.errors import CapacityError

FIRST_NODE, LAST_NODE = 10, 250
_MARK = re.compile(r"greenroom ([a-z0-9]{1,20}) ([a-z0-9][a-z0-9-]{0,62}) (\d{1,12})")
RULES = """\
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
{within}
    iifname "{prefix}*" drop
    oifname "{prefix}*" drop
  }}
}}
"""


NO_RULES = "table inet {table}\ndelete table inet {table}\n"
#: Where packets of a bridge pass the machine's own rules, too.
WITHIN = '    iifname "{link}" oifname "{link}" accept'
LINKS = Path("/sys/class/net")


@dataclass(frozen=True)
class Bridge:
    """`subnet` is `10.213.7` for 10.213.7.0/24. Without an environment's id its making was interrupted."""

    link: str
    subnet: str = ""
    environment_id: str = ""
    ends_at: float = 0.0


@dataclass(frozen=True)
class Network:
    """The bridges of one deployment and provider, within one range of addresses of the machine."""

    deployment: str
    range: ipaddress.IPv4Network
    provider: str = "lxc"

    @property
    def prefix(self) -> str:
        """How the names of this deployment's links begin; a name has at most 15 characters."""
        return "gv" + hashlib.sha256(f"{self.provider} {self.deployment}".encode()).hexdigest()[:6]

    @property
    def table(self) -> str:
        """The machine's rules for this deployment."""
        return f"greenroom-{self.provider}-{self.deployment}"

    def new_link(self) -> str:
        """A name for a node's link on the machine, never used before: the kernel forgets old ones late."""
        return f"{self.prefix}n{secrets.token_hex(3)}"

    def bridges(self) -> list[Bridge]:
        """All of this deployment."""
        links = json.loads(run(["ip", "-json", "address", "show"]) or "[]")
        return [self._bridge(link) for link in links if link.get("ifname", "").startswith(f"{self.prefix}b")]

    def _bridge(self, link: dict[str, Any]) -> Bridge:
        addresses = [one["local"] for one in link.get("addr_info", ()) if one.get("family") == "inet"]
        subnet = addresses[0].rpartition(".")[0] if addresses else ""
        match = _MARK.fullmatch(_alias(link["ifname"]))
        if match is None or match[1] != self.deployment:
            return Bridge(link["ifname"], subnet)
        return Bridge(link["ifname"], subnet, match[2], float(match[3]))

    def ensure(self, environment_id: str, ends_at: float) -> Bridge:
        """The bridge of an environment, with an address; made when there is none. CapacityError when no /24 is free."""
        link = self._link(environment_id)
        with machine_lock():
            found = next((one for one in self.bridges() if one.link == link), None)
            if found is not None and found.subnet and found.environment_id:
                return found
            if found is not None:
                run(["ip", "link", "del", link])
            subnet = self._free()
            self._guard([*(one.link for one in self.bridges()), link])
            run(["ip", "-batch", "-"], _made(link, subnet, self._mark(environment_id, ends_at)))
        return Bridge(link, subnet, environment_id, ends_at)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Let the alias of an environment's bridge tell another end, if it is there."""
        link = self._link(environment_id)
        with machine_lock():
            if any(one.environment_id == environment_id for one in self.bridges()):
                run(["ip", "link", "set", "dev", link, "alias", self._mark(environment_id, ends_at)])

    def release(self, environment_id: str) -> None:
        """Remove the bridge of an environment, and after the last one the machine's rules."""
        link = self._link(environment_id)
        with machine_lock():
            links = [one.link for one in self.bridges()]
            if link not in links:
                return
            run(["ip", "link", "del", link])
            self._guard([one for one in links if one != link])

    def _guard(self, links: Sequence[str]) -> None:
        """Keep the machine's rules for these bridges; none for none."""
        within = "\n".join(WITHIN.format(link=link) for link in links)
        rules = RULES if links else NO_RULES
        run(["nft", "-f", "-"], rules.format(table=self.table, prefix=self.prefix, within=within))

    def _mark(self, environment_id: str, ends_at: float) -> str:
        return f"greenroom {self.deployment} {environment_id} {ends_at:.0f}"

    def _link(self, environment_id: str) -> str:
        return f"{self.prefix}b{hashlib.sha256(environment_id.encode()).hexdigest()[:6]}"

    def _free(self) -> str:
        """A /24 that nothing of the machine has a route to; a fresh one each time, whose addresses nobody remembers."""
        taken = _routed()
        subnets = list(self.range.subnets(new_prefix=24))
        first = secrets.randbelow(len(subnets))
        for subnet in subnets[first:] + subnets[:first]:
            if not any(subnet.overlaps(other) for other in taken):
                return str(subnet.network_address).rpartition(".")[0]
        raise CapacityError(f"all {len(subnets)} networks of {self.range} are in use by environments")


def _alias(link: str) -> str:
    """What a link bears; nothing where it went meanwhile."""
    try:
        return (LINKS / link / "ifalias").read_text().strip()
    except OSError:
        return ""


def _made(link: str, subnet: str, mark: str) -> str:
    return f"""\
link add name {link} type bridge
link set dev {link} alias "{mark}"
address add {subnet}.1/24 dev {link}
link set dev {link} up
"""


def _routed() -> list[ipaddress.IPv4Network]:
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "main"]) or "[]")
    return [ipaddress.IPv4Network(route["dst"], strict=False) for route in routes if route["dst"] != "default"]


def assigned(subnet: str, taken: Collection[str], nodes: Sequence[str]) -> dict[str, str]:
    """An address for each node; CapacityError when the subnet has not so many left."""
    numbers = (f"{subnet}.{number}" for number in range(FIRST_NODE, LAST_NODE))
    free = [address for address in numbers if address not in taken]
    if len(free) < len(nodes):
        raise CapacityError(f"an environment has room for {LAST_NODE - FIRST_NODE} nodes; ask for fewer")
    return dict(zip(nodes, free, strict=False))


def hardware_address(address: str) -> str:
    """The same for the same address: who remembers an earlier node there still reaches the new one."""
    return "00:16:3e:" + ":".join(f"{int(part):02x}" for part in address.split(".")[1:])
