"""An environment on request on real nodes: asked for over HTTP, logged in to with the given key alone, given back."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.keys import SshKeys
from tests.plugins.local_nodes import why_not
from tests.tools import asking
from tests.tools.deployed import PROJECT, Deployed, running

BLUEPRINT = """\
version: 1
service: mine
environment:
  image: debian-12
  roles:
    web: {count: 2, size: tiny}
configure: {with: script}
deploy: [{role: web, to: /srv/mine, run: ["cp word /srv/said"]}]
test: []
"""
PLAIN = BLUEPRINT.partition("configure:")[0] + "test: []\n"
LOGIN_S = 20.0

pytestmark = [
    pytest.mark.local,
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.skipif(why_not() is not None, reason=str(why_not())),
]


@pytest.fixture(scope="module")
def up() -> Iterator[Deployed]:
    with running() as one:
        one.add_project()
        yield one


@pytest.fixture
def api(up: Deployed) -> Iterator[httpx.Client]:
    with asking.client(up) as one:
        yield one


class Person:
    """Somebody with a key pair, and no other way in."""

    def __init__(self, place: Path, name: str) -> None:
        private, self.public = SshKeys().ed25519(name)
        self._key, self._hosts = place / name, place / f"{name}.hosts"
        self._key.touch(mode=0o600)
        self._key.write_text(private.reveal())

    def says(self, node: dict[str, Any], command: str) -> tuple[int, str]:
        """The exit status and output of a command on a node, whose host key must be the one that was told."""
        self._hosts.write_text(f"{node['address']} {node['host_public_key']}\n")
        options = {
            "IdentitiesOnly": "yes", "IdentityAgent": "none", "BatchMode": "yes", "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self._hosts), "GlobalKnownHostsFile": "/dev/null",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        login = ["ssh", "-F", "none", *words, "-i", str(self._key), "-p", str(node["port"]), f"root@{node['address']}"]
        done = subprocess.run([*login, command], capture_output=True, text=True, timeout=LOGIN_S, check=False)
        return done.returncode, done.stdout.strip()


def test_asked_for_used_extended_given_back(up: Deployed, api: httpx.Client, tmp_path: Path) -> None:
    ada, eve = Person(tmp_path, "ada"), Person(tmp_path, "eve")
    body = {"project": PROJECT, "blueprint": PLAIN, "owner": "ada", "ttl": "10m", "public_keys": [ada.public]}
    asked = api.post("/v1/environments", json=body)
    assert asked.status_code == 202, asked.text
    id = asked.json()["id"]
    assert asked.json()["private_key"] is None
    environment = asking.ready(api, id)
    nodes = api.post(environment["links"]["ssh"]).json()["nodes"]
    assert [ada.says(node, "hostname") for node in nodes] == [(0, "web-0"), (0, "web-1")]
    assert [eve.says(node, "hostname")[0] for node in nodes] == [255, 255]
    longer = api.post(f"/v1/environments/{id}/extend", json={"by": "20m"}).json()
    assert longer["contract"]["dies_at"] == pytest.approx(environment["contract"]["dies_at"] + 1200)
    assert api.post(f"/v1/environments/{id}/release").status_code == 202
    assert asking.gone(api, id)["reason"] == "given back by its requester"
    assert up.traces() == {}


def test_a_commit_is_deployed_and_the_key_that_was_made_logs_in(
    up: Deployed, api: httpx.Client, tmp_path: Path
) -> None:
    sha = up.commit({"greenroom.yml": BLUEPRINT, "word": "hello\n"})
    made = api.post("/v1/environments", json={"project": PROJECT, "ref": sha}).json()
    ada = Person(tmp_path, "ada")
    (tmp_path / "ada").write_text(made["private_key"])
    asking.ready(api, made["id"])
    nodes = api.post(f"/v1/environments/{made['id']}/ssh").json()["nodes"]
    assert ada.says(nodes[1], "cat /srv/said") == (0, "hello")
    assert up("env", "run", made["id"], "web[1]", "--", "cat /srv/said") == "hello\n"
    shown = up("env", "show", made["id"])
    assert "owner       operator" in shown
    assert up.json("env", "rm", made["id"])["state"] == "destroyed"
