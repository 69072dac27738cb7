"""Schedules as text for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.output import Output
from pipeline.cli.render import moment, plain

Json = Mapping[str, Any]


def table(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["id"], plain(one["project"]), plain(one["ref"]), f"{one['cron']} {one['timezone']}", one["source"],
            _clock(one["due"]), _last(one),
        )
        for one in found
    ]  # fmt: skip
    out.table(("schedule", "project", "ref", "when", "source", "due", "last"), rows)


def one(out: Output, found: Json) -> None:
    out.say(f"{found['id']}  {found['cron']} {found['timezone']}  ({found['source']})")
    lines = {
        "project": found["project"],
        "repository": f"{found['repository']} @ {found['ref']}",
        "due": f"{_clock(found['due'])}, priority {found['priority']}",
        "overlap": found["overlap"],
        "missed": found["missed"],
        "last": _last(found) or "never",
        "last trigger": found["last_trigger"],
    }
    for name, text in lines.items():
        if text:
            out.say(f"  {name:<12}  {text}")


def _clock(iso: str) -> str:
    """`2026-11-27 02:00 +01:00` of a moment in ISO 8601."""
    return f"{iso[:10]} {iso[11:16]} {iso[19:]}"


def _last(found: Json) -> str:
    if found["last"] is None:
        return ""
    reason = f": {found['last_reason']}" if found["last_reason"] else ""
    return f"{found['last']} {moment(found['last_due_at'])}{reason}"
