"""How long an environment takes that a warm pool keeps: from the POST to leased, with the given key on every node."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from pipeline.adapters.keys import SshKeys
from tests.bench.figures import Figure, median
from tests.tools import asking
from tests.tools.deployed import LOCAL, PROJECT, Deployed, running
from tests.tools.deployment import wait_for

TRIES = 100
AT_ONCE = 20
NODES = 2
FILL_S = 120.0
TEMPLATE = f"""\
version: 1
service: warm
environment:
  image: debian-12
  roles:
    web: {{count: {NODES - 1}, size: tiny}}
    db: {{size: tiny}}
test: []
"""


def measure() -> Iterator[Figure]:
    with running(provider={**LOCAL, "max_nodes": 3 * AT_ONCE * NODES}) as up, asking.client(up) as api:
        up("project", "add", PROJECT)
        api.put("/v1/templates/warm", json={"blueprint": TEMPLATE}).raise_for_status()
        yield from _singles(api)
        yield _at_once(up, api)
        api.delete("/v1/pools/warm").raise_for_status()
        _give_back(api)


def _fill(api: httpx.Client, ready: int) -> None:
    wish = {"project": PROJECT, "ready": ready, "max": ready}  # while they are asked for nothing else is built
    api.put("/v1/pools/warm", json=wish).raise_for_status()
    wait_for(lambda: api.get("/v1/pools/warm").json()["ready"] == ready, "a full pool", FILL_S)


def _singles(api: httpx.Client) -> Iterator[Figure]:
    took, logins = list[float](), list[float]()
    for _ in range(TRIES // AT_ONCE):
        _fill(api, AT_ONCE)
        asked = [_ask(api) for _ in range(AT_ONCE)]
        took += [seconds for seconds, _, _ in asked]
        logins += [_login(environment, private) for _, environment, private in asked]
        _give_back(api)
    what = f"{NODES} nodes, from the POST to leased with the new key read back from every node, median of {TRIES}"
    yield Figure("warm", 1000 * median(took), "ms", what, "< 100")
    yield Figure("warm_p99", 1000 * sorted(took)[TRIES * 99 // 100 - 1], "ms", f"99 of {TRIES} took less", "< 300")
    yield Figure("warm_login", 1000 * median(logins), "ms", "the requester's own first ssh login, apart, median")


def _give_back(api: httpx.Client) -> None:
    """All that is leased; what follows must not be measured while it goes."""
    given = [one["id"] for one in api.get("/v1/environments?state=leased&limit=100").json()["items"]]
    for id in given:
        api.post(f"/v1/environments/{id}/release").raise_for_status()
    for id in given:
        asking.gone(api, id)


def _at_once(up: Deployed, api: httpx.Client) -> Figure:
    _fill(api, AT_ONCE)
    clients = [_client(up) for _ in range(AT_ONCE)]
    for one in clients:
        one.get("/healthz")
    with ThreadPoolExecutor(AT_ONCE) as crowd:
        answers = list(crowd.map(_ask, clients))
    if len({one["id"] for _, one, _ in answers}) != AT_ONCE:
        raise AssertionError("an environment was handed out twice")
    for one in clients:
        one.close()
    took = [seconds for seconds, _, _ in answers]
    return Figure("warm_many", max(took), "s", f"{AT_ONCE} at once, the slowest; median {median(took):.2f}", "< 1")


def _client(up: Deployed) -> httpx.Client:
    with asking.client(up) as one:
        return httpx.Client(base_url=one.base_url, headers=one.headers, timeout=30, trust_env=False)


def _ask(api: httpx.Client) -> tuple[float, dict[str, Any], str]:
    """Seconds, the environment, and the private key of whoever asked."""
    private, public = SshKeys().ed25519("bench")
    body = {"project": PROJECT, "template": "warm", "public_keys": [public]}
    began = time.perf_counter()
    answer = api.post("/v1/environments", json=body)
    took = time.perf_counter() - began
    if answer.status_code != 201:
        raise AssertionError(f"none was ready: {answer.status_code} {answer.text}")
    return took, answer.json(), private.reveal()


def _login(environment: dict[str, Any], private: str) -> float:
    """Seconds that OpenSSH takes for the first login with the key that was asked for."""
    node = environment["nodes"][0]
    with tempfile.TemporaryDirectory() as place:
        key = Path(place) / "key"
        key.touch(mode=0o600)
        key.write_text(private)
        options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes"]
        argv = ["ssh", "-F", "none", "-q", *options, "-i", str(key), f"root@{node['address']}", "true"]
        began = time.perf_counter()
        subprocess.run(argv, check=True, timeout=30)
        return time.perf_counter() - began
