"""Warm pools as text for a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.cli.output import Output
from pipeline.cli.render import plain
from pipeline.domain.durations import format_duration

Json = Mapping[str, Any]


def table(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["name"], plain(one["project"]), one["template"], f"{one['ready']} of {one['wanted']}",
            str(one["preparing"]), str(one["handed_out"]), str(one["max"]), _rate(one),
        )
        for one in found
    ]  # fmt: skip
    out.table(("pool", "project", "template", "ready", "preparing", "handed out", "max", "hits"), rows)


def one(out: Output, found: Json) -> None:
    out.say(f"{found['name']}  template {found['template']}, project {plain(found['project'])}")
    lines = {
        "ready": f"{found['ready']} of {found['wanted']}, each for {format_duration(found['max_age_s'])} at most",
        "preparing": str(found["preparing"]),
        "handed out": f"{found['handed_out']}; {found['max']} stand at most",
        "hits": f"{_rate(found)}{_wait(found['hit_wait_s'])}",
        "misses": f"{found['misses']}{_wait(found['miss_wait_s'])}",
    }
    for name, text in lines.items():
        out.say(f"  {name:<10}  {text}")
    for why in found["short"]:
        out.say(f"  {'short':<10}  {plain(why)}")


def _rate(found: Json) -> str:
    asked = found["hits"] + found["misses"]
    return f"{found['hits']} of {asked}" if asked else "nobody asked yet"


def _wait(seconds: float | None) -> str:
    return "" if seconds is None else f", ready after {seconds:.2f} s (median)"
