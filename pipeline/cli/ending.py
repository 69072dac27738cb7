"""What must be settled before a deployment stops: active runs, held nodes, and environments on request."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any

from pipeline.cli import render
from pipeline.cli.client import Client, connect
from pipeline.cli.output import REFUSED, Complaint, Output
from pipeline.settings import Settings

Json = dict[str, Any]
#: What cancelled runs and nodes that are given back may take to be gone, in seconds.
SETTLE_S = 90.0
LOOK_S = 0.2
LOOKED_AT = 1000
BY_FORCE = "greenroom down --force"
#: Environments of no run, which nobody gives back: they go when their time ends, by force, or by `greenroom destroy`.
NOBODYS = frozenset({"adopted"})


def settle(out: Output, settings: Settings, *, release: bool, force: bool) -> list[str]:
    """End runs and holds as far as allowed; the command ends when it is not allowed to stop. Environments left."""
    client = connect(settings)
    active = [run for run in client.items("/v1/runs", LOOKED_AT) if run["state"] != "finished"]
    if active and not force:
        ids = ", ".join(run["id"] for run in active[:5])
        raise Complaint(f"{len(active)} runs are not finished ({ids}); wait, or cancel them with --force", REFUSED)
    for run in active:
        client.post(f"/v1/runs/{run['id']}/cancel", _wish(force=True))
    if active:
        until_none(lambda: [run for run in client.items("/v1/runs", LOOKED_AT) if run["state"] != "finished"])
    there = standing(client)
    going = [one for one in there if one["state"] == "destroying"]
    held = [one for one in there if one["state"] == "held" or (one["contract"] is not None and one not in going)]
    if release:
        return _release(out, client, held, force=force)
    for one in going:
        out.say(f"{one['id']} is not taken back yet: the next `greenroom up` goes on with it")
    for one in held:
        out.say(
            f"the nodes of {one['id']} stay, out of reach: the next `greenroom up` after "
            f"{render.moment(one['ends_at'])} takes them back, `greenroom down --release` would have"
        )
    return [one["id"] for one in held]


def standing(client: Client) -> list[Json]:
    """Environments of which something may exist."""
    return [one for one in client.items("/v1/environments", LOOKED_AT) if one["state"] not in render.GONE]


def _release(out: Output, client: Client, held: list[Json], *, force: bool) -> list[str]:
    for one in held:
        whose = f"environments/{one['id']}" if one["contract"] is not None else f"runs/{one['owner']}"
        client.post(f"/v1/{whose}/release", _wish(force=force))
    if force:
        for one in standing(client):
            client.post(f"/v1/environments/{one['id']}/destroy", _wish(force=True))
    stays = frozenset() if force else NOBODYS
    until_none(lambda: [one for one in standing(client) if one["state"] not in stays])
    left = standing(client)
    ids = [str(one["id"]) for one in left]
    if left and force:
        from pipeline.bootstrap import build

        _tell_elsewhere(out, left, build().clean_nodes(BY_FORCE, _forced()))
    elif left:
        out.say(f"the nodes of {', '.join(ids)} stay; `greenroom down --force` removes them")
    return ids


def _tell_elsewhere(out: Output, left: list[Json], here: Collection[str]) -> None:
    """Nodes of providers that are not this machine's go by their own calls alone, and those were not over in time."""
    for one in left:
        if one["provider"] not in here:
            out.say(
                f"{one['id']} could not be taken back within {SETTLE_S:.0f} s: what it has at {one['provider']} stays "
                "there, and the next `greenroom up` goes on with it"
            )


def _wish(*, force: bool) -> Json:
    """What is asked of the gate: by force it is told, and passes every guard that may be passed."""
    return {"reason": BY_FORCE, "overrides": _forced()} if force else {"reason": "greenroom down --release"}


def _forced() -> dict[str, str]:
    from pipeline.domain.guards import GUARDS

    return {guard.name: BY_FORCE for guard in GUARDS if not guard.firm}


def until_none(look: Callable[[], list[Json]]) -> list[Json]:
    """Wait until nothing is left; what is left when the time is over."""
    deadline = time.monotonic() + SETTLE_S
    left: list[Json] = look()
    while left and time.monotonic() < deadline:
        time.sleep(LOOK_S)
        left = look()
    return left
