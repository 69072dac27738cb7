"""How long an environment on request takes where none is kept ready: from the POST to ready, over HTTP, real nodes."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx

from pipeline.adapters.keys import SshKeys
from tests.bench.figures import Figure, median
from tests.tools import asking
from tests.tools.deployed import LOCAL, PROJECT, Deployed, running

TRIES = 15
NODES = 3
BLUEPRINT = f"""\
version: 1
service: cold
environment:
  image: debian-12
  roles:
    web: {{count: {NODES}, size: tiny}}
test: []
"""


def measure() -> Iterator[Figure]:
    with running(provider={**LOCAL, "max_nodes": 2 * NODES}) as up, asking.client(up) as api:
        yield _figure(up, api)


def _figure(up: Deployed, api: httpx.Client) -> Figure:
    up("project", "add", PROJECT)
    _single(api)  # the first one of a deployment also makes what all share
    took = [_single(api) for _ in range(TRIES)]
    what = f"{NODES} nodes, from the POST to ready with the given key, median of {TRIES}; worst {max(took):.2f}"
    return Figure("cold", median(took), "s", what, "< 1")


def _single(api: httpx.Client) -> float:
    body = {"project": PROJECT, "blueprint": BLUEPRINT, "public_keys": [SshKeys().ed25519("bench")[1]]}
    began = time.perf_counter()
    answer = api.post("/v1/environments", json=body)
    id = str(answer.raise_for_status().json()["id"])
    asking.ready(api, id)
    took = time.perf_counter() - began
    api.post(f"/v1/environments/{id}/release").raise_for_status()
    asking.gone(api, id)
    return took
