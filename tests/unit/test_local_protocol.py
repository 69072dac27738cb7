"""The node helper takes exactly the requests it knows."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from pipeline.adapters.drivers.local.protocol import (
    BuildImage,
    Create,
    Destroy,
    MarkEnd,
    Plain,
    Refused,
    environment_json,
    listing_json,
    parse_listing,
    parse_request,
)
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import (
    EnvironmentRequest,
    Listing,
    NodeRequest,
    NodeStatus,
    NodeView,
    OwnedEnvironment,
)

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAA me@there"
PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r\nAAAA==\n-----END OPENSSH PRIVATE KEY-----\n"
NODE = NodeRequest(
    name="web-0",
    role="web",
    image="debian-12",
    resources=Resources(0.5, 256, 2),
    qos=QosProfile(QosClass.GUARANTEED, disk_write_iops=500, network_in=10**8, cpu_shares=7),
    host_key=Secret(PRIVATE),
    host_public_key=PUBLIC,
    machine="Rack-a.1",
    zone="rack-a",
)
REQUEST = EnvironmentRequest("ours", "env-1", "shop", PUBLIC, 1e9, (NODE, replace(NODE, name="web-1")))


def said(**changes: Any) -> dict[str, Any]:
    """A create request in JSON; `nodes__image="x"` changes the first node, `resources__vcpu=0` its resources."""
    body = copy.deepcopy(environment_json(REQUEST))
    for path, value in changes.items():
        place = body
        *parents, last = path.split("__")
        for parent in parents:
            place = place["nodes"][0] if parent == "nodes" else place[parent]
        place[last] = value
    return {"do": "create", "environment": body}


def parse(request: object) -> object:
    return parse_request(json.dumps(request).encode() + b"\n")


def test_what_the_driver_says_the_helper_understands() -> None:
    assert parse(said()) == Create(REQUEST)


@pytest.mark.parametrize("do", ["ping", "images", "list", "usage", "clean", "stop"])
def test_plain_requests(do: str) -> None:
    assert parse({"do": do}) == Plain(do)


def test_requests_with_names() -> None:
    assert parse({"do": "build_image", "image": "debian-12"}) == BuildImage("debian-12")
    assert parse({"do": "destroy", "environment_id": "e", "nodes": None}) == Destroy("e", None)
    assert parse({"do": "destroy", "environment_id": "e", "nodes": ["a", "b"]}) == Destroy("e", ("a", "b"))
    assert parse({"do": "mark_end", "environment_id": "e", "ends_at": 2e9}) == MarkEnd("e", 2e9)


@pytest.mark.parametrize(
    "name", ["", "..", ".", "a/b", "/etc", "A", "a_b", "-a", "a\n", "a.b", "a" * 64, 1, None, ["a"]]
)
def test_names_that_are_none(name: object) -> None:
    for request in (
        {"do": "build_image", "image": name},
        {"do": "destroy", "environment_id": name, "nodes": None},
        {"do": "destroy", "environment_id": "e", "nodes": [name]},
        said(environment_id=name),
        said(deployment=name),
        said(nodes__name=name),
        said(nodes__image=name),
    ):
        with pytest.raises(Refused) as caught:
            parse(request)
        assert caught.value.code == "bad-request"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"authorized_key": "ssh-ed25519 AAAA\nssh-ed25519 BBBB"}, "authorized_key: expected one OpenSSH public key"),
        ({"authorized_key": 'command="id" ssh-ed25519 AAAA'}, "authorized_key"),
        ({"login_keys": "ssh-ed25519 AAAA"}, "login_keys: expected a list of at most 20"),
        ({"login_keys": ['command="id" ssh-ed25519 AAAA']}, "login_keys: expected OpenSSH public keys"),
        ({"ends_at": "soon"}, "ends_at: expected a number"),
        ({"ends_at": True}, "ends_at: expected a number"),
        ({"ends_at": float("nan")}, "ends_at: expected a number"),
        ({"ends_at": -1}, "from 0 to"),
        ({"nodes": []}, "nodes: expected 1 to 240 nodes"),
        ({"nodes": ["web-0"]}, "expected an object"),
        ({"nodes": None}, "nodes: expected 1 to 240 nodes"),
        ({"extra": 1}, "environment: unknown key 'extra'"),
        ({"nodes__extra": 1}, "unknown key 'extra'"),
        ({"nodes__host_key": "no key"}, "host_key: expected an OpenSSH private key"),
        ({"nodes__host_key": PRIVATE + "x" * 20000}, "host_key"),
        ({"nodes__host_public_key": "ssh-rsa AAAA"}, "expected a key of type ssh-ed25519"),
        ({"nodes__name": "web-1"}, "nodes: expected different names"),
        ({"nodes__resources__vcpu": 0}, "vcpu: expected a number from 0.01"),
        ({"nodes__resources__memory_mib": 16.5}, "memory_mib: expected a whole number"),
        ({"nodes__resources__more": 1}, "unknown key 'more'"),
        ({"nodes__qos__qos_class": "best"}, "qos_class: expected one of guaranteed"),
        ({"nodes__qos__network_in": 0}, "network_in: expected a number from 1"),
    ],
)
def test_a_wrong_member_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused) as caught:
        parse(said(**change))
    assert caught.value.code == "bad-request"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "line", [b"", b"{", b"\xff\xfe", b"null", b"[]", b'"list"', b"{}", b'{"do": null}', b'{"do": "sh"}']
)
def test_what_is_no_request(line: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_request(line)
    assert caught.value.code == "bad-request"


def test_a_missing_member_is_named() -> None:
    request = said()
    del request["environment"]["service"]
    with pytest.raises(Refused, match=r"environment.service: expected a value"):
        parse(request)


def test_a_refusal_does_not_repeat_a_key() -> None:
    with pytest.raises(Refused) as caught:
        parse(said(nodes__host_key="-----BEGIN RSA PRIVATE KEY-----\nsecret"))
    assert "secret" not in str(caught.value)


def test_a_listing_survives_the_way() -> None:
    listing = Listing(
        (NodeView("e", "web-0", "e.web-0", NodeStatus.ERROR, "10.211.1.10", 22, "it ended"),),
        (OwnedEnvironment("e", 17.5), OwnedEnvironment("f", 0)),
    )
    assert parse_listing(json.loads(json.dumps(listing_json(listing)))) == listing
