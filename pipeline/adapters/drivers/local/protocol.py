"""What goes over the helper's socket: one JSON request a line, answered by progress lines and one last line.

Requests: `{"do": "ping" | "images" | "list" | "usage" | "clean" | "stop"}`, `{"do": "build_image", "image": NAME}`,
`{"do": "create", "environment": {...}}`, `{"do": "destroy", "environment_id": NAME, "nodes": [NAME, ...] | null}`,
`{"do": "mark_end", "environment_id": NAME, "ends_at": SECONDS}`.
Answers: `{"progress": TEXT}` any number of times, then `{"ok": VALUE}` or `{"error": CODE, "message": TEXT}`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, Listing, NodeRequest, NodeStatus, NodeView, OwnedEnvironment

#: Names of deployments, environments, nodes and images; nothing else of a request becomes part of a path.
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
#: Machines and zones of an inventory, which are written down and never part of a path; empty: not said.
PLACE = re.compile(r"[A-Za-z0-9._-]{0,100}")
PUBLIC_KEY = re.compile(r"(ssh-[a-z0-9-]+|ecdsa-[a-z0-9-]+|sk-[a-z0-9@.-]+) [A-Za-z0-9+/]+={0,2}( [ -~]*)?")
PRIVATE_KEY = re.compile(
    r"-----BEGIN OPENSSH PRIVATE KEY-----\n[A-Za-z0-9+/=\n]+\n-----END OPENSSH PRIVATE KEY-----\n?"
)
MAX_LINE = 4 * 1024 * 1024
MAX_NODES = 240
MAX_KEYS = 20


class Refused(Exception):
    """A request that the helper did not fulfil; `code` is `bad-request`, `capacity`, `transient` or `permanent`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Create:
    environment: EnvironmentRequest


@dataclass(frozen=True)
class Destroy:
    """`nodes` None: the whole environment."""

    environment_id: str
    nodes: tuple[str, ...] | None


@dataclass(frozen=True)
class MarkEnd:
    environment_id: str
    ends_at: float


@dataclass(frozen=True)
class BuildImage:
    image: str


@dataclass(frozen=True)
class Plain:
    """A request without arguments: `ping`, `images`, `list`, `usage`, `clean` or `stop`."""

    do: str


@dataclass(frozen=True)
class Usage:
    """What the machine used since `since` (epoch seconds), and of that its nodes, by the machine of the inventory that
    each was placed on: amounts by dimension.
    """

    since: float
    whole: Mapping[str, float]
    by_machine: Mapping[str, Mapping[str, float]]


Request = Create | Destroy | MarkEnd | BuildImage | Plain
PLAIN = ("ping", "images", "list", "usage", "clean", "stop")


class Fields:
    """The members of one JSON object, taken out one by one; `done` refuses those that nobody asked for."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise Refused("bad-request", f"{where}: expected an object")
        self._left = dict(value)
        self._where = where

    def refuse(self, key: str, expected: str) -> Refused:
        return Refused("bad-request", f"{self._where}.{key}: expected {expected}")

    def take(self, key: str) -> object:
        if key not in self._left:
            raise self.refuse(key, "a value")
        return self._left.pop(key)

    def text(self, key: str, pattern: re.Pattern[str], expected: str, limit: int = 16384) -> str:
        value = self.take(key)
        if not isinstance(value, str) or len(value) > limit or not pattern.fullmatch(value):
            raise self.refuse(key, expected)
        return value

    def name(self, key: str) -> str:
        return self.text(key, NAME, "letters a-z, digits and -, at most 63", 63)

    def number(self, key: str, low: float, high: float) -> float:
        value = self.take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise self.refuse(key, "a number")
        if not low <= value <= high:
            raise self.refuse(key, f"a number from {low:g} to {high:g}")
        return value

    def moment(self, key: str) -> float:
        return self.number(key, 0, 1e12)

    def integer(self, key: str, low: int, high: int) -> int:
        value = self.number(key, low, high)
        if not isinstance(value, int):
            raise self.refuse(key, "a whole number")
        return value

    def names(self, key: str) -> tuple[str, ...]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) > MAX_NODES:
            raise self.refuse(key, f"a list of at most {MAX_NODES} names")
        return tuple(Fields({"name": item}, f"{self._where}.{key}").name("name") for item in value)

    def lines(self, key: str, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
        value = self.take(key)
        if not isinstance(value, list) or len(value) > MAX_KEYS:
            raise self.refuse(key, f"a list of at most {MAX_KEYS} {what}")
        return tuple(Fields({key: item}, self._where).text(key, pattern, what) for item in value)

    def done(self) -> None:
        if self._left:
            raise Refused("bad-request", f"{self._where}: unknown key {min(self._left)!r}")


def parse_request(line: bytes) -> Request:
    """Read one request line. Refused with `bad-request` for anything that is not exactly a known request."""
    try:
        fields = Fields(json.loads(line), "request")
    except (ValueError, RecursionError) as error:
        raise Refused("bad-request", "request: not JSON") from error
    request = _request(str(fields.take("do")), fields)
    fields.done()
    return request


def _request(do: str, fields: Fields) -> Request:
    if do in PLAIN:
        return Plain(do)
    if do == "create":
        return Create(_environment(Fields(fields.take("environment"), "environment")))
    if do == "destroy":
        return _destroy(fields)
    if do == "mark_end":
        return MarkEnd(fields.name("environment_id"), fields.moment("ends_at"))
    if do == "build_image":
        return BuildImage(fields.name("image"))
    known = ("create", "destroy", "mark_end", "build_image", *PLAIN)
    raise Refused("bad-request", f"request.do: expected one of {', '.join(known)}")


def _destroy(fields: Fields) -> Destroy:
    environment_id = fields.name("environment_id")
    nodes = fields.take("nodes")
    named = None if nodes is None else Fields({"nodes": nodes}, "request").names("nodes")
    return Destroy(environment_id, named)


def _environment(fields: Fields) -> EnvironmentRequest:
    nodes = fields.take("nodes")
    if not isinstance(nodes, list) or not 1 <= len(nodes) <= MAX_NODES:
        raise fields.refuse("nodes", f"1 to {MAX_NODES} nodes")
    request = EnvironmentRequest(
        deployment=fields.name("deployment"),
        environment_id=fields.name("environment_id"),
        service=fields.name("service"),
        authorized_key=fields.text("authorized_key", PUBLIC_KEY, "one OpenSSH public key"),
        ends_at=fields.moment("ends_at"),
        login_keys=fields.lines("login_keys", PUBLIC_KEY, "OpenSSH public keys"),
        nodes=tuple(_node(Fields(node, f"nodes[{i}]")) for i, node in enumerate(nodes)),
    )
    fields.done()
    if len({node.name for node in request.nodes}) != len(request.nodes):
        raise fields.refuse("nodes", "different names")
    return request


def _node(fields: Fields) -> NodeRequest:
    node = NodeRequest(
        name=fields.name("name"),
        role=fields.name("role"),
        image=fields.name("image"),
        resources=_resources(Fields(fields.take("resources"), "resources")),
        qos=_qos(Fields(fields.take("qos"), "qos")),
        host_key=Secret(fields.text("host_key", PRIVATE_KEY, "an OpenSSH private key")),
        host_public_key=fields.text("host_public_key", PUBLIC_KEY, "one OpenSSH public key"),
        machine=fields.text("machine", PLACE, "the name of a machine"),
        zone=fields.text("zone", PLACE, "the name of a zone"),
    )
    fields.done()
    if not node.host_public_key.startswith("ssh-ed25519 "):
        raise fields.refuse("host_public_key", "a key of type ssh-ed25519")
    return node


def _resources(fields: Fields) -> Resources:
    resources = Resources(
        vcpu=fields.number("vcpu", 0.01, 1024),
        memory_mib=fields.integer("memory_mib", 16, 1 << 24),
        disk_gib=fields.integer("disk_gib", 0, 1 << 20),
        hugepages_mib=fields.integer("hugepages_mib", 0, 0),  # placement knows that local machines have none
    )
    fields.done()
    return resources


def _qos(fields: Fields) -> QosProfile:
    qos_class = fields.take("qos_class")
    if qos_class not in tuple(QosClass):
        raise fields.refuse("qos_class", f"one of {', '.join(QosClass)}")
    limits: dict[str, int | None] = {}
    for key in QOS_LIMITS:
        value = fields.take(key)
        limits[key] = None if value is None else Fields({key: value}, "qos").integer(key, 1, 1 << 50)
    fields.done()
    return QosProfile(QosClass(str(qos_class)), **limits)


QOS_LIMITS = (
    "disk_read_iops", "disk_write_iops", "disk_read_bytes", "disk_write_bytes", "network_in", "network_out",
    "cpu_shares",
)  # fmt: skip


def environment_json(request: EnvironmentRequest) -> dict[str, Any]:
    """Say a request in JSON; it holds the host keys in clear."""
    body = _without(asdict(request), "project", "networks", "owner")
    body["nodes"] = [_without(node, "wiring", "custom", "per_machine") for node in body["nodes"]]
    for node, said in zip(request.nodes, body["nodes"], strict=True):
        said["host_key"] = node.host_key.reveal()
    return body


def _without(body: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """What the helper has no use for stays here: local nodes have one network, and are no servers of a cloud."""
    return {name: value for name, value in body.items() if name not in names}


def listing_json(listing: Listing) -> dict[str, Any]:
    return asdict(listing)


def parse_listing(value: Mapping[str, Any]) -> Listing:
    """Read what `listing_json` said."""
    nodes = tuple(NodeView(**{**node, "status": NodeStatus(node["status"])}) for node in value["nodes"])
    return Listing(nodes, tuple(OwnedEnvironment(**environment) for environment in value["environments"]))


def usage_json(usage: Usage | None) -> dict[str, Any] | None:
    return None if usage is None else asdict(usage)


def parse_usage(value: Mapping[str, Any] | None) -> Usage | None:
    """Read what `usage_json` said; None: nothing was measured yet."""
    return None if value is None else Usage(**value)
