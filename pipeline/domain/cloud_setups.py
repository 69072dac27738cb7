"""What a project of Greenroom needs of a cloud for itself: planned against what is there, and made only where missing.

A thing of the name that does not bear the setup's mark is somebody else's, and is never taken over.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from pipeline.domain.errors import UserError
from pipeline.domain.projects import Quota


class Part(StrEnum):
    """In the order in which they are made: each needs some of those before it."""

    PROJECT = "project"
    QUOTA = "quota"
    USER = "user"
    ROLE = "role"
    NETWORK = "network"
    SUBNET = "subnet"
    ROUTER = "router"
    CREDENTIAL = "application-credential"


#: What Keystone calls the role that may make servers and their ports, and nothing of others.
ROLE = "member"
#: Ports a node may have at most, as a rule: its own, further networks', and its share of virtual addresses.
PORTS_A_NODE = 4
#: Security groups an environment may have at most, as a rule, and rules in each.
GROUPS_AN_ENVIRONMENT, RULES_A_GROUP = 8, 20


@dataclass(frozen=True)
class Piece:
    """What is there of a part; `ours`: it bears the setup's mark, or cannot bear one.

    `whole` is false where something of it is missing still. `shared`: every project may use it. `limits` are a quota's,
    `cidr` a subnet's. `leads_to` is a router's external network; empty: it has none. `made_by` is the setup that made a
    credential; `ruled`: it may call only the services that Greenroom calls.
    """

    id: str
    ours: bool = True
    whole: bool = True
    shared: bool = False
    limits: Mapping[str, int] = field(default_factory=dict)
    cidr: str = ""
    leads_to: str = ""
    made_by: str = ""
    ruled: bool = False


Found = Mapping[Part, Piece]


@dataclass(frozen=True)
class Step:
    """One part in words. `there`: nothing has to be made."""

    part: Part
    name: str
    there: bool
    text: str


@dataclass(frozen=True)
class CloudSetup:
    """A setup that was asked for. Times are seconds since the epoch; `finished_at` None: it is not done yet.

    `limits` are those of the cloud's quota. `cidr` is the network's where one is made; `external_network`: a router
    leads there. `access_rules`: the credential may call only the services that Greenroom calls. `renew`: a credential
    is made although there is one. `steps` are what was there and what was made, `refused` the guard that refused, and
    `fault` why not all was done. `sealed_secret` is the credential's until it was told once; `entry` all the rest that
    its entry in a clouds.yaml says.
    """

    id: str
    deployment: str
    provider: str
    project: str
    network: str
    who: str
    why: str
    asked_at: float
    limits: Mapping[str, int] = field(default_factory=dict)
    cidr: str = ""
    external_network: str = ""
    access_rules: bool = False
    renew: bool = False
    overrides: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False
    sealed_secret: str = ""
    finished_at: float | None = None
    steps: tuple[Step, ...] = ()
    refused: str = ""
    fault: str = ""
    entry: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What everything that is made is called, but for the network; and the entry of a clouds.yaml."""
        return f"greenroom-{self.deployment}-{self.project}"

    @property
    def mark(self) -> str:
        """The description of everything that is made. It is not the mark of an environment, which the reaper reads."""
        return f"greenroom {self.deployment} for project {self.project}"


def check_network(cidr: str) -> str:
    """A network in CIDR form with room for nodes; UserError else."""
    try:
        network = ipaddress.ip_network(cidr)
    except ValueError as error:
        raise UserError(f"network {cidr[:50]!r}: {error}; expected something like 10.40.0.0/24") from None
    if network.num_addresses < 8:  # its own, the broadcast's, the gateway's and a few nodes'
        raise UserError(f"network {cidr}: it has room for hardly any node; use a larger one")
    return str(network)


def limits_of(quota: Quota, *, floating: bool) -> Mapping[str, int]:
    """The limits of a cloud's quota that hold what a project's quota allows; what is not limited there, is not here.

    A node takes whole cores. `floating`: every node gets a floating address. Nova has no limit of local disks.
    """
    nodes = quota.nodes
    environments = quota.environments if quota.environments is not None else nodes
    groups = None if environments is None else environments * GROUPS_AN_ENVIRONMENT + 1
    limits: dict[str, int | None] = {
        "servers": nodes,
        "cores": None if quota.vcpu is None else max(math.ceil(quota.vcpu), nodes or 0),
        "memory_mib": None if quota.memory_mib is None else math.ceil(quota.memory_mib),
        "server_groups": groups,
        "server_group_members": nodes,
        "ports": None if nodes is None else (nodes + 1) * PORTS_A_NODE,
        "security_groups": groups,
        "security_group_rules": None if groups is None else groups * RULES_A_GROUP,
        "floating_addresses": nodes if floating else quota.floating_addresses,
    }
    return {name: amount for name, amount in limits.items() if amount is not None}


def taken(setup: CloudSetup, found: Found) -> str:
    """Which part has the name already and is not ours; empty when none."""
    return next((f"{part} {_name(setup, part)}" for part in Part if part in found and not found[part].ours), "")


def plan(setup: CloudSetup, found: Found) -> tuple[Step, ...]:
    """Every part that is wanted, in order: there already, or to be made."""
    return tuple(_step(setup, part, found) for part in _wanted(setup, found))


def _wanted(setup: CloudSetup, found: Found) -> Iterator[Part]:
    yield Part.PROJECT
    if setup.limits:
        yield Part.QUOTA
    yield from (Part.USER, Part.ROLE, Part.NETWORK)
    network = found.get(Part.NETWORK)
    if network is None or not network.shared:
        yield Part.SUBNET
        if setup.external_network:
            yield Part.ROUTER
    yield Part.CREDENTIAL


def _step(setup: CloudSetup, part: Part, found: Found) -> Step:
    return Step(part, _name(setup, part), _stands(setup, part, found.get(part)), _told(setup, part, found.get(part)))


def _stands(setup: CloudSetup, part: Part, piece: Piece | None) -> bool:
    if piece is None or not piece.whole:
        return False
    if part is Part.QUOTA:
        return all(piece.limits.get(name) == amount for name, amount in setup.limits.items())
    return part is not Part.CREDENTIAL or not setup.renew or piece.made_by == setup.id


def _name(setup: CloudSetup, part: Part) -> str:
    return {Part.ROLE: ROLE, Part.NETWORK: setup.network, Part.SUBNET: setup.network}.get(part, setup.name)


def _told(setup: CloudSetup, part: Part, piece: Piece | None) -> str:
    there = {} if piece is None else piece.limits
    limits = ", ".join(
        f"{name} {amount}" + (f" (now {there[name]})" if there.get(name, amount) != amount else "")
        for name, amount in setup.limits.items()
    )
    return {
        Part.QUOTA: limits,
        Part.ROLE: "of the user on the project",
        Part.NETWORK: "shared: nothing of it is made" if piece is not None and piece.shared else "of the project",
        Part.SUBNET: _as_it_is(None if piece is None else piece.cidr, setup.cidr),
        Part.ROUTER: f"to {_as_it_is(None if piece is None else piece.leads_to or 'nowhere', setup.external_network)}",
        Part.CREDENTIAL: f"of the user; cannot make others; may call {_may_call(setup, piece)}",
    }.get(part, setup.mark)


def _as_it_is(there: str | None, wanted: str) -> str:
    """What a part will be (`there` is None), or is: one that is there does not become what is wanted now."""
    return wanted if there in {None, wanted} else f"{there}, and not {wanted}: it is left as it is"


def _may_call(setup: CloudSetup, credential: Piece | None) -> str:
    def rules(*, ruled: bool) -> str:
        return "the services that Greenroom calls" if ruled else "whatever the role may"

    wanted = rules(ruled=setup.access_rules)
    if credential is None or not _stands(setup, Part.CREDENTIAL, credential):
        return wanted
    told = _as_it_is(rules(ruled=credential.ruled), wanted)
    return told if told == wanted else f"{told}; --renew makes another"
