"""The ownership mark of what Greenroom makes in a cloud: given with the creation of a thing, never after it.

Servers carry it as metadata. What has no metadata carries it in its description, which Neutron lets a list be filtered
by; the words there are in a fixed order, so that the description of an environment's things is known from its id alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

#: How the names of all metadata of ours begin.
OURS = "greenroom-"
DEPLOYMENT = "greenroom-deployment"
ENVIRONMENT = "greenroom-environment"
NODE = "greenroom-node"
ENDS_AT = "greenroom-ends-at"
#: Where a node is reached, and where its neighbours reach it, written once it has its addresses.
ADDRESS = "greenroom-address"
INSIDE = "greenroom-inside"
#: The same in a further network, whose name follows.
FURTHER = "greenroom-address."
#: On images that are snapshots of nodes: whose project's they are in Greenroom, and their name there.
PROJECT = "greenroom-project"
SNAPSHOT = "greenroom-snapshot"
_DESCRIBED = re.compile(r"greenroom ([a-z0-9]{1,20}) ([a-z0-9][a-z0-9-]{0,62})")
_GROUPED = re.compile(rf"({_DESCRIBED.pattern}) [a-z0-9][a-z0-9-]*")
_HOSTED = re.compile(
    r"greenroom-host ([a-z0-9]{1,20}) (own|switched) (made|kept) ([a-z0-9.-]{1,253}) ([a-z0-9][a-z0-9-]{0,62})"
)
#: What Neutron takes of a description.
MOST_DESCRIPTION = 255
_NAMED = re.compile(r"greenroom-([a-z0-9]{1,20})-until-(\d{1,12})")


@dataclass(frozen=True)
class Mark:
    """Whose a thing is."""

    deployment: str
    environment_id: str

    @property
    def description(self) -> str:
        return f"greenroom {self.deployment} {self.environment_id}"

    def name_of(self, node: str) -> str:
        """What a node's things are called; its server's hostname is the node's name alone."""
        return f"{self.environment_id}-{node}"

    def group_of(self, role: str) -> str:
        """The name of a role's server group, which has neither description nor metadata."""
        return f"{self.description} {role}"

    def group_name(self, ends_at: float) -> str:
        """The name of the environment's security group, which tells also when its lease ends (epoch seconds)."""
        return f"greenroom-{self.deployment}-until-{ends_at:.0f}"


def snapshot_image(deployment: str, project: str, name: str) -> str:
    """What the image of a snapshot is called, by which servers are made of it."""
    return f"greenroom {deployment} {project} {name}"


@dataclass(frozen=True)
class HostMark:
    """What a router's floating address is for: it leads requests for a host to an environment, whose own host it is
    where `own` says so. It is no mark of the environment's, so it does not go with it. `kept`: somebody else made it.
    """

    deployment: str
    host: str
    environment: str
    own: bool = False
    kept: bool = field(default=False, compare=False)

    @property
    def description(self) -> str:
        kind, whose = "own" if self.own else "switched", "kept" if self.kept else "made"
        return f"greenroom-host {self.deployment} {kind} {whose} {self.host} {self.environment}"


def hosted(description: str | None) -> HostMark | None:
    """The mark of a router's address in a description, if it is one."""
    match = _HOSTED.fullmatch(description or "")
    return HostMark(match[1], match[4], match[5], match[2] == "own", match[3] == "kept") if match else None


def described(description: str | None) -> Mark | None:
    """The mark in a description, if it is one."""
    match = _DESCRIBED.fullmatch(description or "")
    return Mark(match[1], match[2]) if match else None


def named_group(name: str | None) -> Mark | None:
    """The mark in the name of a server group, if it is one."""
    match = _GROUPED.fullmatch(name or "")
    return described(match[1]) if match else None


def ends_at_of(group_name: str) -> float:
    """When the lease of an environment ends, by the name of its security group; 0 when that does not tell."""
    match = _NAMED.fullmatch(group_name)
    return float(match[2]) if match else 0.0


def marked(metadata: Mapping[str, str]) -> Mark | None:
    """The mark in a server's metadata, if there is one."""
    deployment, environment_id = metadata.get(DEPLOYMENT), metadata.get(ENVIRONMENT)
    return Mark(deployment, environment_id) if deployment and environment_id else None
