"""Waiting for what a worker does: the API is asked again and again until it is finished."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import FAILED, Complaint

if TYPE_CHECKING:
    from pipeline.cli.client import Client


def finished(client: Client, path: str, *, within_s: float, look_s: float, late: str) -> dict[str, Any]:
    """What stands at `path` once it has a `finished_at`; Complaint `late` when it has none in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(path)
        if found["finished_at"] is not None:
            return found
        time.sleep(look_s)
    raise Complaint(late, FAILED)


def tried_again(
    client: Client, path: str, after: float, *, within_s: float, look_s: float, late: str
) -> dict[str, Any]:
    """What stands at `path` once its `tried_at` is later than `after`; Complaint `late` when it is not in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(path)
        if found["tried_at"] > after:
            return found
        time.sleep(look_s)
    raise Complaint(late, FAILED)
