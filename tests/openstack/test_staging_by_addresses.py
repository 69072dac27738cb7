"""A whole deployment whose router are the cloud's floating addresses: a staging on the real hypervisor, and its end."""

from __future__ import annotations

import http.client
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.openstack.cloud.hypervisor import NAME, ZONE
from tests.plugins.openstack_cloud import CloudUnderTest, connection_of, hosts_of, reached_inside, release_hosts
from tests.tools.deployed import PROJECT, Deployed, running
from tests.tools.deployment import wait_for
from tests.tools.visitors import visitors

DOMAIN, HOST, PORT = "staging.test", "front.staging.test", 8000
INVENTORY = f"""\
version: 1
zones: [{{name: {ZONE}}}]
machines: [{{name: {NAME}, zone: {ZONE}, vcpu: 16, memory: 8GiB, disk: 100GiB}}]
"""
BLUEPRINT = f"""\
version: 1
service: served
environment:
  image: debian-12
  roles:
    web: {{size: tiny, open: [{PORT}/tcp]}}
configure: {{with: script}}
deploy:
  - {{role: web, to: /srv/served, run: ["bin/serve"], ready: {{http: ":{PORT}/word", within: 2m}}}}
test: [{{run: "grep -q . word", on: web}}]
"""
SERVE = f"#!/bin/sh\nsetsid python3 -m http.server {PORT} </dev/null >/dev/null 2>&1 &\n"
#: Software emulation takes its time: guests boot, and everything in them is slow.
PATIENCE_S = 240.0
#: How long an answer may take, in seconds.
ANSWER_S = 5.0
#: Requests that are on their way at a time.
AT_ONCE = 4

pytestmark = [pytest.mark.hypervisor, pytest.mark.alone, pytest.mark.redis, pytest.mark.timeout(600)]


@dataclass
class Front:
    """What visitors of the staging get; each asks at its address, on a connection of its own."""

    up: Deployed
    said: list[str] = field(default_factory=list)

    @property
    def now(self) -> Mapping[str, Any]:
        return dict(self.up.json("staging", "show", "front"))

    def opened(self) -> Mapping[str, Any]:
        return dict(self.up.json("staging", "open", "front"))

    def deploy(self, word: str) -> str:
        """The environment of the idle slot, which says a word."""
        files = {"greenroom.yml": BLUEPRINT, "bin/serve": SERVE, "word": word}
        self.up.commit(files, word)
        self.up("staging", "deploy", "front", word)
        wait_for(lambda: self.now[self.now["idle"]]["state"] in {"passed", "failed"}, "the slot", PATIENCE_S, 1.0)
        slot = self.now[self.now["idle"]]
        assert slot["state"] == "passed", f"{slot}\n{self.up.said()}"
        return str(slot["environment"])

    def ask(self, address: str) -> str:
        connection = http.client.HTTPConnection(address, PORT, timeout=ANSWER_S)
        try:
            connection.request("GET", "/word")
            return connection.getresponse().read().decode()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()


@pytest.fixture
def front(hypervisor: CloudUnderTest, tmp_path: Path) -> Iterator[Front]:
    inventory = tmp_path / "inventory.yml"
    inventory.write_text(INVENTORY)
    provider = {
        "driver": "openstack",
        "inventory": str(inventory),
        "build_s": 300,
        "poll_s": 1,
        "openstack": {
            "cloud": hypervisor.ours,
            "clouds_file": str(hypervisor.clouds_file),
            "network": hypervisor.network,
            "external_network": hypervisor.external_network,
            "images": {"debian-12": hypervisor.real_image},
        },
    }
    router = {"base_domain": DOMAIN, "router": {"kind": "floating_ip", "provider": "openstack"}}
    with ExitStack() as stack:
        own = stack.enter_context(closing(connection_of(hypervisor, hypervisor.ours)))
        stack.enter_context(reached_inside(hypervisor))
        with running(provider=provider, more=router) as up:
            # last of all: as long as the tick knows a staging, it has an address made for it
            stack.callback(release_hosts, own, up.app.settings.deployment)
            up.add_project()
            up(
                "staging", "set", "front", "--project", PROJECT, "--role", "web", "--port", str(PORT),
                "--health", "/word", "--watch", "4s", "--drain", "2s", "--keep", "5m",
            )  # fmt: skip
            yield Front(up)


def test_versions_take_turns_at_one_address(front: Front, hypervisor: CloudUnderTest) -> None:
    """From the first version to the end of the staging, after which the cloud has nothing of it."""
    up = front.up
    first = front.deploy("one")
    up("staging", "promote", "front", "--wait")
    opened = front.opened()
    address = str(opened["ip"])
    assert opened == {"host": HOST, "url": f"http://{HOST}:{PORT}/", "ip": address, "up": 1, "targets": 1}
    wait_for(lambda: front.ask(address) == "one", "an answer of the first version", PATIENCE_S)

    second = front.deploy("two")
    own = up.json("env", "open", second)
    assert (own["host"], own["up"], front.ask(own["ip"])) == (f"{second}.{DOMAIN}", 1, "two")
    with visitors(lambda: front.said.append(front.ask(address)), AT_ONCE):
        up("staging", "promote", "front", "--wait")
        wait_for(lambda: front.said[-1] == "two", "an answer of the second version", PATIENCE_S, 0.1)
    answers = Counter(front.said)
    assert front.opened() == opened
    assert [up.json("env", "open", one)["targets"] for one in (first, second)] == [
        1,
        0,
    ]  # its only node is the live one
    assert answers.keys() >= {"one", "two"}
    assert answers["one"] + answers["two"] >= 0.95 * answers.total(), answers

    found = {check["name"]: check for check in up.json("doctor")}
    assert [check for check in found.values() if not check["ok"]] == []
    assert found["router"]["detail"] == "floating-ip answers: 2 environments, 1 stagings"
    assert {slot["environment"] for slot in (front.now["blue"], front.now["green"])} == {first, second}

    up("staging", "rm", "front", "--override", "traffic=the test is over")
    wait_for(lambda: up.app.standing("openstack") == [], "the end of the nodes", PATIENCE_S, 1.0)
    with closing(connection_of(hypervisor, hypervisor.ours)) as connection:
        deployment = up.app.settings.deployment
        wait_for(lambda: hosts_of(connection, deployment) == [], "the end of the addresses", PATIENCE_S, 1.0)
