"""The provider of Vagrant that the Vagrant driver is tried with: it takes what the real one takes, and fails like it.

Each fault that is shown here is one that the driver has to see coming, since Vagrant itself does not get over it.
"""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from openstack.compute.v2.server import Server
from openstack.config.loader import OpenStackConfig
from openstack.connection import Connection

from tests.openstack.vagrant_plugin import Bench
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of

PATIENCE_S = 120.0
NAMES = ("web-0", "web-1")
GONE = "unable to find the OpenStack instance"

pytestmark = [
    pytest.mark.openstack,
    pytest.mark.vagrant,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("vagrant") is None, reason="there is no vagrant: apt-get install it"),
]


def keys_of(cloud: CloudUnderTest, entry: str) -> dict[str, Any]:
    """What the provider is told of an account and of a server without login."""
    region = OpenStackConfig([str(cloud.clouds_file)]).get_one(entry)
    auth = region.get_auth_args()
    return {
        "identity_api_version": "3",
        "openstack_auth_url": auth["auth_url"],
        "username": auth["username"],
        "password": auth["password"],
        "project_name": auth["project_name"],
        "domain_name": auth["user_domain_name"],
        "region": region.region_name,
        "flavor": "m1.tiny",
        "image": cloud.image,
        "networks": [{"name": cloud.network}],
        "ssh_disabled": True,
    }


@dataclass(frozen=True)
class Trial:
    """Machines of one test and their servers, which all bear its name; `seen` are keypairs of those."""

    cloud: CloudUnderTest
    hand: Connection
    bench: Bench
    name: str
    seen: set[str] = field(default_factory=set)

    def set_up(self, **more: Any) -> None:
        """Two machines, alike."""
        self.write({name: self.machine(name, **more) for name in NAMES})

    def write(self, machines: dict[str, dict[str, Any]]) -> None:
        self.bench.set_up(machines)

    def machine(self, name: str, entry: str = "greenroom", **more: Any) -> dict[str, Any]:
        return {**keys_of(self.cloud, entry), "server_name": f"{self.name}-{name}", **more}

    def up(self, *arguments: str) -> list[Server]:
        """The servers, by machine, when all is well."""
        ended = self.bench.vagrant("up", *arguments)
        assert ended.returncode == 0, said(ended)
        return self.servers()

    def servers(self) -> list[Server]:
        found = sorted(self.hand.compute.servers(name=f"^{self.name}-"), key=lambda server: str(server.name))
        self.seen.update(server.key_name for server in found)
        return found

    def delete(self, server: Server) -> None:
        self.hand.compute.delete_server(server)
        self.hand.compute.wait_for_delete(server, wait=PATIENCE_S)

    def keypairs(self) -> set[str]:
        return {str(one.name) for one in self.hand.compute.keypairs()}

    def clear(self) -> None:
        """Remove the servers of this test and their keypairs."""
        for server in self.servers():
            self.delete(server)
        for name in self.seen & self.keypairs():
            self.hand.compute.delete_keypair(name)


@pytest.fixture
def trial(test_cloud: CloudUnderTest, tmp_path: Path) -> Iterator[Trial]:
    with connection_of(test_cloud, test_cloud.ours) as hand:
        made = Trial(test_cloud, hand, Bench(tmp_path), f"strict{secrets.token_hex(3)}")
        with ExitStack() as after:
            after.callback(made.clear)
            yield made


def said(ended: CompletedProcess[str]) -> str:
    return ended.stdout + ended.stderr


def test_two_machines_come_up_and_go(trial: Trial) -> None:
    trial.set_up(availability_zone="rack-A-1", metadata={"who": "us"}, user_data="#cloud-config\n")
    servers = trial.up()
    assert [server.status for server in servers] == ["ACTIVE", "ACTIVE"]
    for name, server in zip(NAMES, servers, strict=True):
        assert trial.bench.id_file(name).read_text() == server.id
        assert (server.availability_zone, server.metadata) == ("rack-A-1", {"who": "us"})
        assert list(server.addresses) == [trial.cloud.network]
        assert server.key_name in trial.keypairs()
    status = trial.bench.vagrant("status")
    assert status.stdout.count("active (openstack)") == 2, said(status)
    ended = trial.bench.vagrant("destroy", "-f")
    assert ended.returncode == 0, said(ended)
    assert trial.servers() == []
    assert trial.keypairs().isdisjoint(server.key_name for server in servers)
    assert not trial.bench.id_file("web-0").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"flavour": "m1.tiny"}, "flavour"),
        ({"networks": [{"id": "some", "port": "other"}]}, ":port"),
        ({"networks": [{"uuid": "some"}]}, ":uuid"),
        ({"application_credential_id": "some"}, "application_credential_id"),
        ({"identity_api_version": 3}, "identity_api_version: 3"),
        ({"keypair_name": "mine"}, "private_key_path"),
        ({"project_name": None}, "project_name is required"),
        ({"volumes": ["data"]}, "volumes: this provider of tests cannot do that"),
    ],
)
def test_what_it_does_not_know_is_refused_by_name(trial: Trial, wrong: dict[str, Any], told: str) -> None:
    trial.write({"web-0": trial.machine("web-0", **wrong)})
    ended = trial.bench.vagrant("up")
    assert ended.returncode == 1
    assert told in ended.stderr
    assert trial.servers() == []


def test_one_server_deleted_by_hand_blocks_all_until_its_id_is_forgotten(trial: Trial) -> None:
    trial.set_up()
    gone, left = trial.up()
    trial.delete(gone)
    for call in (["status"], ["up"], ["destroy", "-f"]):
        ended = trial.bench.vagrant(*call)
        assert ended.returncode == 1
        assert GONE in ended.stderr
    assert [server.id for server in trial.servers()] == [left.id]
    trial.bench.id_file("web-0").unlink()
    ended = trial.bench.vagrant("destroy", "-f")
    assert ended.returncode == 0, said(ended)
    assert trial.servers() == []
    assert gone.key_name in trial.keypairs()


def test_of_several_networks_the_first_has_to_be_told_by_its_name(trial: Trial) -> None:
    name = trial.cloud.network
    id = trial.hand.network.find_network(name, ignore_missing=False).id
    other = trial.hand.network.create_network(name=trial.name)
    try:
        trial.hand.network.create_subnet(network_id=other.id, ip_version=4, cidr="10.43.0.0/24", gateway_ip=None)
        further = {"id": other.id, "address": "10.43.0.9"}
        trial.write({"web-0": trial.machine("web-0", networks=[{"id": id}, further])})
        (server,) = trial.up()
        assert [one["addr"] for one in server.addresses[trial.name]] == ["10.43.0.9"]
        assert "resolve the server's address" in said(trial.bench.vagrant("ssh-config"))
        trial.write({"web-0": trial.machine("web-0", networks=[{"name": name}, further])})
        assert f"HostName {server.addresses[name][0]['addr']}" in trial.bench.vagrant("ssh-config").stdout
    finally:
        trial.clear()
        trial.hand.network.delete_network(other)


def test_a_floating_address_is_never_released(trial: Trial) -> None:
    more: dict[str, Any] = {"floating_ip_pool": trial.cloud.external_network, "floating_ip_pool_always_allocate": True}
    trial.write({"web-0": trial.machine("web-0", **more)})
    (server,) = trial.up()
    (address,) = trial.hand.network.ips(fixed_ip_address=_address(server, "fixed"))
    try:
        assert address.floating_ip_address == _address(server, "floating")
        ended = trial.bench.vagrant("destroy", "-f")
        assert ended.returncode == 0, said(ended)
        assert trial.hand.network.get_ip(address.id).port_id is None
    finally:
        trial.hand.network.delete_ip(address)


def _address(server: Server, kind: str) -> str:
    (network,) = server.addresses.values()
    (found,) = [one["addr"] for one in network if one["OS-EXT-IPS:type"] == kind]
    return str(found)


def test_a_server_in_error_is_told_without_its_fault_and_then_as_made(trial: Trial) -> None:
    group = trial.hand.compute.create_server_group(name=trial.name, policy="affinity")
    try:
        hints: dict[str, Any] = {"scheduler_hints": {"group": group.id}}
        zones = dict(zip(NAMES, ("rack-A-1", "rack-A-2"), strict=True))
        machine = trial.machine
        trial.write({n: machine(n, availability_zone=zone, **hints) for n, zone in zones.items()})
        ended = trial.bench.vagrant("up", "--no-parallel")
        _, broken = trial.servers()
        fault = trial.hand.compute.get_server(broken.id).fault
        assert (broken.status, ended.returncode) == ("ERROR", 1)
        assert "No valid host" in fault["message"]
        assert f"Server '{broken.id}' is in error status." in ended.stderr
        assert "No valid host" not in said(ended)
        again = trial.bench.vagrant("up", "web-1")
        assert (again.returncode, "already created" in again.stdout) == (0, True), said(again)
    finally:
        trial.hand.compute.delete_server_group(group)


def test_machines_of_two_projects_land_in_the_first(trial: Trial) -> None:
    ours, neighbour = trial.cloud.ours, trial.cloud.neighbour
    trial.write({name: trial.machine(name, entry) for name, entry in zip(NAMES, (ours, neighbour), strict=True)})
    servers = trial.up()
    assert [server.name for server in servers] == [f"{trial.name}-{name}" for name in NAMES]
    assert {server.project_id for server in servers} == {trial.hand.current_project_id}
