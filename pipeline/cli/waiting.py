"""Waiting for what a worker does: the API is asked again and again until it is done."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.cli.output import FAILED, Complaint

if TYPE_CHECKING:
    from pipeline.cli.client import Client


def finished(
    client: Client,
    path: str,
    *,
    within_s: float,
    look_s: float,
    late: str,
    seen: Callable[[dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """What stands at `path` once it has a `finished_at`; Complaint `late` when it has none in time.

    `seen` is shown every look.
    """

    def done(one: dict[str, Any]) -> bool:
        if seen is not None:
            seen(one)
        return one["finished_at"] is not None

    return until(client, path, done, within_s=within_s, look_s=look_s, late=late)


def until(
    client: Client, path: str, done: Callable[[dict[str, Any]], bool], *, within_s: float, look_s: float, late: str
) -> dict[str, Any]:
    """What stands at `path` once it is done; Complaint `late` when it is not in time."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found: dict[str, Any] = client.get(path)
        if done(found):
            return found
        time.sleep(look_s)
    raise Complaint(late, FAILED)
