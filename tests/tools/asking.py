"""Asks a deployment for environments over HTTP, as a developer's program would."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from tests.tools.deployed import Deployed

#: Nothing that is asked for takes longer, in seconds.
PATIENCE_S = 60.0
LOOK_S = 0.005


@contextmanager
def client(up: Deployed) -> Iterator[httpx.Client]:
    """A client of the deployment's API, with its token."""
    url = json.loads((up.home / "run/up.json").read_text())["api"]
    headers = {"authorization": f"Bearer {(up.home / 'token').read_text().strip()}"}
    with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as made:
        yield made


def ready(api: httpx.Client, id: str) -> dict[str, Any]:
    """The environment once it can be used; AssertionError says why it cannot."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        one: dict[str, Any] = api.get(f"/v1/environments/{id}").json()
        if one["contract"]["ready_at"]:
            return one
        if one["state"] in {"destroying", "destroyed", "rejected", "withdrawn"} or time.monotonic() > deadline:
            raise AssertionError(f"{id} is {one['state']}: {one['fault'] or one['reason']}")
        time.sleep(LOOK_S)


def gone(api: httpx.Client, id: str) -> dict[str, Any]:
    """The environment once nothing of it exists."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        one: dict[str, Any] = api.get(f"/v1/environments/{id}").json()
        if one["state"] == "destroyed":
            return one
        if time.monotonic() > deadline:
            raise AssertionError(f"{id} is {one['state']}: {one['fault'] or one['reason']}")
        time.sleep(LOOK_S)
