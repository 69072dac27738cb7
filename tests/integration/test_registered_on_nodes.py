"""A whole deployment whose provider has registered machines: local nodes that pose as bare metal and as servers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.ports.transports import EnvironmentAccess, NodeAccess
from tests.integration.test_requests_on_nodes import Person
from tests.plugins.local_nodes import LocalNodes, why_not
from tests.tools import asking
from tests.tools.deployed import LOCAL, PROJECT, Deployed, running
from tests.tools.deployment import wait_for

PROVIDER = {"driver": "static", "visit_s": 1.0}
BLUEPRINT = """\
version: 1
service: mine
environment:
  image: debian-12
  roles:
    db: {workload: high-io, size: tiny}
    web: {count: 2, size: tiny, forbid: {kind: bare-metal}}
test: []
"""
RESET = "rm -rf /srv/*; test ! -e /var/tmp/stuck || { echo the disk is stuck; exit 3; }"
#: So long a machine is away, in seconds: longer than it takes to notice and to replace its node.
AWAY_S = 45.0
KINDS = ("bare-metal", "vm", "vm", "bare-metal")

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def posed(local_nodes: LocalNodes) -> Iterator[EnvironmentAccess]:
    with local_nodes.environment(*(f"m{number}-0" for number in range(1, len(KINDS) + 1))) as access:
        yield access


@pytest.fixture(scope="module")
def up(posed: EnvironmentAccess, local_nodes: LocalNodes) -> Iterator[Deployed]:
    """A deployment that registered all machines, each of which let its key in before."""
    with running(provider=PROVIDER) as one:
        one.add_project()
        key = one("machines", "key").strip()
        for node, kind in zip(posed.nodes, KINDS, strict=True):
            let_in(local_nodes, posed, node, key)
            one(*added(node, kind, "static"))
        until(one, ["free"] * len(KINDS))
        yield one


def let_in(local_nodes: LocalNodes, posed: EnvironmentAccess, node: NodeAccess, key: str) -> None:
    assert local_nodes.run(posed, node.name, f"echo '{key}' >>~root/.ssh/authorized_keys")[0] == 0


def added(node: NodeAccess, kind: str, provider: str) -> Sequence[str]:
    """The words that register a machine."""
    return (
        "machines", "add", node.name.partition("-")[0], "--provider", provider, "--address", node.address,
        "--zone", "rack-a", "--image", "debian-12", "--kind", kind, "--capacity", "vcpu=4", "--reset", RESET,
        "--host-key", node.host_public_key,
    )  # fmt: skip


@pytest.fixture
def api(up: Deployed) -> Iterator[httpx.Client]:
    with asking.client(up) as one:
        yield one


def machines(up: Deployed) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in up.json("machines", "ls")}


def until(up: Deployed, states: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The machines once they are in these states, in any order."""

    def look() -> dict[str, dict[str, Any]] | None:
        found = machines(up)
        return found if sorted(one["registered"]["state"] for one in found.values()) == sorted(states) else None

    try:
        return wait_for(look, f"machines {states}", 60.0)
    except AssertionError as error:
        raise AssertionError(f"{error}: {json.dumps(machines(up), indent=1)}\n{up.said()}") from error


def made(api: httpx.Client, person: Person) -> dict[str, Any]:
    body = {"project": PROJECT, "blueprint": BLUEPRINT, "owner": "ada", "ttl": "10m", "public_keys": [person.public]}
    asked = api.post("/v1/environments", json=body)
    assert asked.status_code == 202, asked.text
    return asking.ready(api, asked.json()["id"])


def test_one_blueprint_has_both_kinds_and_only_its_key_gets_in(up: Deployed, api: httpx.Client, tmp_path: Path) -> None:
    ada, eve = Person(tmp_path, "ada"), Person(tmp_path, "eve")
    for person, other in ((ada, eve), (eve, ada)):
        environment = made(api, person)
        leased = until(up, ["free", "leased", "leased", "leased"])
        kinds = {
            one["registered"]["used_by"].partition("/")[2]: one["kind"]
            for one in leased.values()
            if one["registered"]["used_by"]
        }
        assert kinds == {"db-0": "bare-metal", "web-0": "vm", "web-1": "vm"}
        nodes = api.post(environment["links"]["ssh"]).json()["nodes"]
        assert [person.says(node, "ls /srv; echo left >/srv/by-the-guest") for node in nodes] == [(0, "")] * 3
        assert [other.says(node, "true")[0] for node in nodes] == [255] * 3
        assert up("env", "run", environment["id"], "db[0]", "--", "echo $((6 * 7))").strip() == "42"
        api.post(f"/v1/environments/{environment['id']}/release")
        asking.gone(api, environment["id"])
        assert [person.says(node, "true")[0] for node in nodes] == [255] * 3
        until(up, ["free"] * len(KINDS))


def test_a_machine_in_use_is_kept_and_one_that_cannot_be_cleaned_goes_out(
    up: Deployed, api: httpx.Client, tmp_path: Path
) -> None:
    ada = Person(tmp_path, "ada")
    environment = made(api, ada)
    name, node = next((one["machine"], one) for one in nodes_of(api, environment) if one["role"] == "db")
    refused = api.post(f"/v1/machines/static/{name}/remove", json={})
    assert (refused.status_code, refused.json()["type"]) == (409, "guard-refused")
    assert f"{environment['id']}/db-0" in refused.json()["detail"]
    (login,) = [one for one in api.post(environment["links"]["ssh"]).json()["nodes"] if one["name"] == node["name"]]
    assert ada.says(login, "touch /var/tmp/stuck")[0] == 0
    api.post(f"/v1/environments/{environment['id']}/release")
    asking.gone(api, environment["id"])
    found = until(up, ["free", "free", "free", "quarantined"])[name]
    assert "ended with 3: the disk is stuck" in found["registered"]["reason"]
    assert found["state"] == "quarantined"
    key = up.app.settings.service_key_file.read_text()
    service = Person(tmp_path, "service")
    (tmp_path / "service").write_text(key)
    assert service.says(login, "rm /var/tmp/stuck")[0] == 0
    assert up("machines", "release", name, "--reason", "the disk was changed").startswith(f"machine {name} is being")
    assert until(up, ["free"] * len(KINDS))[name]["state"] == "in-service"


def nodes_of(api: httpx.Client, environment: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(f"/v1/environments/{environment['id']}/nodes").json()
    return found


def test_a_machine_that_goes_away_loses_its_node_and_is_cleaned_when_it_is_back(
    up: Deployed, api: httpx.Client, tmp_path: Path
) -> None:
    ada = Person(tmp_path, "ada")
    environment = made(api, ada)
    db = next(one for one in nodes_of(api, environment) if one["role"] == "db")
    (login,) = [one for one in api.post(environment["links"]["ssh"]).json()["nodes"] if one["name"] == "db-0"]
    away = f"ip link set eth0 down; sleep {AWAY_S:g}; ip link set eth0 up"
    assert ada.says(login, f"nohup sh -c 'sleep 0.5; {away}' </dev/null >/dev/null 2>&1 &")[0] == 0

    def replaced() -> dict[str, Any] | None:
        now = next((one for one in nodes_of(api, environment) if one["role"] == "db"), db)
        return now if now["machine"] != db["machine"] and now["state"] == "in-service" else None

    other = wait_for(replaced, "another node in place of the one that was lost", 90.0)
    shown = machines(up)
    assert shown[db["machine"]]["registered"]["state"] == "down"
    assert shown[other["machine"]]["kind"] == "bare-metal"
    api.post(f"/v1/environments/{environment['id']}/release")
    asking.gone(api, environment["id"])
    assert until(up, ["free"] * len(KINDS))[db["machine"]]["state"] == "in-service"
    assert ada.says(login, "true")[0] == 255


def moved(up: Deployed, api: httpx.Client, environment: dict[str, Any], to: str, person: Person) -> str:
    """Where the database stands after it was moved; who may log in may do so there."""
    says = up("env", "move", environment["id"], "db", "--to", to, "--drain", "0s", "--keep", "1s", "--wait")
    assert f"moves db to {to}: gets " in says
    (node,) = [one for one in nodes_of(api, environment) if one["role"] == "db"]
    (login,) = [one for one in api.post(environment["links"]["ssh"]).json()["nodes"] if one["name"] == node["name"]]
    assert person.says(login, "hostname")[0] == 0
    return str(node["machine"])


def test_registered_machines_stand_beside_nodes_that_are_made(local_nodes: LocalNodes, tmp_path: Path) -> None:
    """One environment of a provider that makes its own nodes, and has a machine besides; a role goes between both."""
    beside = {**LOCAL, "registered": True, "visit_s": 1.0}
    ada = Person(tmp_path, "ada")
    with local_nodes.environment("b1-0") as posed, running(provider=beside) as up, asking.client(up) as api:
        up.add_project()
        let_in(local_nodes, posed, posed.nodes[0], up("machines", "key").strip())
        up(*added(posed.nodes[0], "bare-metal", "local"))
        until(up, ["free"])
        environment = made(api, ada)
        stands = {one["name"]: one["machine"] for one in nodes_of(api, environment)}
        assert stands["db-0"] == "b1"
        assert "b1" not in {stands["web-0"], stands["web-1"]}
        nodes = {one["name"]: one for one in api.post(environment["links"]["ssh"]).json()["nodes"]}
        assert [ada.says(nodes[name], "hostname")[0] for name in sorted(nodes)] == [0, 0, 0]
        assert nodes["db-0"]["address"] == posed.nodes[0].address
        went = moved(up, api, environment, "vm", ada)
        assert went != "b1"
        until(up, ["free"])
        assert moved(up, api, environment, "bare-metal", ada) == "b1"
        api.post(f"/v1/environments/{environment['id']}/release")
        asking.gone(api, environment["id"])
        until(up, ["free"])
        assert up.traces() == {}
