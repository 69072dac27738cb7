"""Answers that an API did not finish, as openstacksdk passes them on: none is taken for a whole one, or for the end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from openstack.connection import Connection

from pipeline.adapters.clouds.openstack.estate import OpenStackEstate
from pipeline.adapters.drivers.openstack import apart, servers, wires
from pipeline.adapters.drivers.openstack.cloud import Cloud
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account, Mark
from pipeline.domain.cloud_acts import CloudObject, ObjectKind
from pipeline.domain.errors import TransientError
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Network, Wiring
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from tests.tools.faulty_proxy import Fault, FaultyProxy, Spoil, broken_off, faulty_proxy, silent_after, truncated

MARK = Mark("ours", "env-1")
#: What the API behind the proxy says, by the last word of the path.
ANSWERS: dict[str, dict[str, Any]] = {
    "networks": {"networks": [{"id": "net-1", "name": "net"}], "network": {"id": "net-2", "subnets": ["subnet-1"]}},
    "ports": {"ports": [{"id": "port-1", "name": "env-1-web-0", "fixed_ips": [{"ip_address": "10.0.0.2"}]}]},
    "floatingips": {"floatingip": {"id": "address-1", "floating_ip_address": "172.24.4.9", "port_id": "port-1"}},
    "detail": {"servers": []},
    "os-availability-zone": {
        "availabilityZoneInfo": [
            {"zoneName": "rack-a", "zoneState": {"available": True}},
            {"zoneName": "rack-b", "zoneState": {"available": False}},
        ]
    },
    "os-server-groups": {
        "server_group": {"id": "group-9", "name": "greenroom ours env-1 web"},
        "server_groups": [{"id": "group-9", "name": "greenroom ours env-1 web"}, {"id": "group-8", "name": "web"}],
    },
}
SIZE = Resources(vcpu=1, memory_mib=64, disk_gib=1)
SPOILS = [silent_after, truncated, broken_off]
#: What openstacksdk deprecates in itself is nothing that a test of ours can change.
pytestmark = [
    pytest.mark.filterwarnings("ignore::openstack.warnings._RemovedInSDKWarning"),
    pytest.mark.filterwarnings("ignore::openstack.warnings.OpenStackDeprecationWarning"),
]


def version(id: str, path: str) -> dict[str, Any]:
    """What an API tells of a version of itself; Nova's has minor ones, the late of which are used."""
    minor = {"version": "2.96", "min_version": "2.1"} if id == "v2.1" else {}
    return {
        "version": {
            "id": id,
            "status": "CURRENT",
            "links": [{"rel": "self", "href": f"http://api.test{path}"}],
            **minor,
        }
    }


class Api(BaseHTTPRequestHandler):
    """Says what it is, and what `ANSWERS` tells it."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        word = self.path.partition("?")[0].rstrip("/").rpartition("/")[2]
        body = json.dumps(ANSWERS.get(word) or version(word, self.path)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815  # http.server's names

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def proxy(api: str) -> Iterator[FaultyProxy]:
    with faulty_proxy({"network": api, "compute": api}) as one:
        yield one


@pytest.fixture
def cloud(proxy: FaultyProxy) -> Iterator[Cloud]:
    connection = Connection(
        auth_type="none",
        endpoint=proxy.url("network"),
        network_endpoint_override=f"{proxy.url('network')}/v2.0",
        compute_endpoint_override=f"{proxy.url('compute')}/v2.1",
    )
    yield Cloud(connection, Terms("net", external_network="net"))
    connection.close()


def connect(cloud: Cloud) -> str:
    """The address of a node with a floating one."""
    wiring = Wiring(floating=True)
    node = NodeRequest("web-0", "web", "plain", SIZE, QosProfile(), Secret("k"), "p", wiring=wiring)
    request = EnvironmentRequest("ours", "env-1", "shop", "key", 0.0, (node,))
    return wires.connect(cloud, MARK, request, [node], {"": "group-1"}, fresh=True)["web-0"].address


def make_server_group(cloud: Cloud) -> str:
    node = NodeRequest("web-0", "web", "plain", SIZE, QosProfile(), Secret("k"), "p", per_machine=1)
    return apart.ensure(cloud, MARK, [node], fresh=True)["web"]


def make_network(cloud: Cloud) -> str:
    return wires.networks(cloud, MARK, [Network("back", cidr="10.9.0.0/24")])["back"]


ACTS: list[tuple[str, str, Callable[[Cloud], object], object]] = [
    ("POST", "/floatingips", connect, "172.24.4.9"),
    ("POST", "/ports", connect, "172.24.4.9"),
    ("POST", "/networks", make_network, "net-2"),
    ("POST", "/os-server-groups", make_server_group, "group-9"),
    ("GET", "/servers/detail", lambda cloud: cloud.servers(), []),
    ("GET", "/os-server-groups", lambda cloud: [one.id for one in apart.of_environment(cloud, MARK)], ["group-9"]),
]


@pytest.mark.parametrize("spoil", SPOILS, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize(
    ("method", "path", "act", "whole"),
    ACTS,
    ids=["address", "ports", "network", "server group", "list", "list of server groups"],
)
def test_what_was_not_finished_is_tried_again(
    proxy: FaultyProxy,
    cloud: Cloud,
    spoil: Spoil,
    method: str,
    path: str,
    act: Callable[[Cloud], object],
    whole: object,
) -> None:
    assert act(cloud) == whole
    proxy.faults.append(Fault("spoilt", method, path, spoil))
    with pytest.raises(TransientError):
        act(cloud)
    assert proxy.happened == ["spoilt"]
    assert act(cloud) == whole


def test_servers_of_a_part_of_nova_that_does_not_answer_are_not_passed_over(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of them Nova says that they are there, and not whose."""
    ours = {"id": "server-1", "name": "web-0", "status": "ACTIVE", "metadata": {}}
    monkeypatch.setitem(ANSWERS, "detail", {"servers": [ours]})
    assert [one.id for one in cloud.servers()] == ["server-1"]
    monkeypatch.setitem(ANSWERS, "detail", {"servers": [{"id": "server-2", "status": "UNKNOWN"}, ours]})
    with pytest.raises(TransientError, match="cannot reach its part with server server-2"):
        cloud.servers()


def test_what_such_a_part_may_use_is_not_taken_for_unused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.adapters.clouds.openstack.estate.connect", lambda _: cloud.connection)
    estate, flavor = OpenStackEstate(Account("any")), CloudObject(ObjectKind.FLAVOR, "flavor-1", "small")
    monkeypatch.setitem(ANSWERS, "servers", {"servers": [{"id": "server-1", "name": "web-0"}]})
    assert estate.users(flavor) == []
    monkeypatch.setitem(ANSWERS, "servers", {"servers": [{"id": "server-2"}]})
    with pytest.raises(TransientError, match="cannot reach its part with server server-2"):
        estate.users(flavor)


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("rack-a", {"availability_zone": "rack-a"}),
        ("rack-b", {"availability_zone": "rack-b"}),
        ("nowhere", {}),
        ("", {}),
    ],
)
def test_a_node_goes_to_no_other_zone_while_its_own_takes_no_servers(
    cloud: Cloud, zone: str, told: dict[str, str]
) -> None:
    node = NodeRequest("web-0", "web", "plain", SIZE, QosProfile(), Secret("k"), "p", zone=zone)
    assert servers.zone_of(cloud, node) == told
