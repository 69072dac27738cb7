"""Answers of placement as text for a person: 80 columns are enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.cli.output import Output

Json = Mapping[str, Any]
#: Machines of a group that are named.
NAMED = 6
LEGEND = "More points are better; below each node stands the best other machine for it."


def placed(out: Output, answer: Json, *, why: bool) -> None:
    """Where each node would stand and, with `why`, what spoke for it."""
    if why:
        _scored(out, answer["nodes"])
    else:
        out.table(("node", "zone", "machine"), [(one["node"], one["zone"], one["machine"]) for one in answer["nodes"]])
    for note in answer["notes"]:
        _say(out, note)


def _scored(out: Output, nodes: Sequence[Json]) -> None:
    """Scores that say nothing of any machine are left out."""
    every = [one for node in nodes for one in (node["chosen"], node["other"]) if one is not None]
    names = list(dict.fromkeys(name for one in every for name, points in one["points"].items() if points))
    rows = [row for node in nodes for row in _rows(node, names)]
    out.table(("node", "zone", "machine", "points", *names), rows)
    _say(out, LEGEND)
    for node in nodes:
        if node["other"] is not None and node["other"]["total"] > node["chosen"]["total"]:
            _say(out, f"{node['node']}: {node['other']['machine']} has more, but with it not all nodes found a place.")


def _rows(node: Json, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    yield node["node"], *_candidate(node["chosen"], names)
    if node["other"] is None:
        yield ("  or", "no other", *[""] * (len(names) + 2))
    else:
        yield "  or", *_candidate(node["other"], names)


def _candidate(one: Json, names: Sequence[str]) -> Iterator[str]:
    yield from (one["zone"], one["machine"], f"{one['total']:.2f}")
    yield from (f"{one['points'].get(name, 0.0):.2f}" for name in names)


def refused(out: Output, answer: Json, *, each: bool) -> None:
    """Why it finds no place and what would help; with `each`, every group of machines too."""
    waits = answer["answer"] == "unschedulable"
    _say(out, "Unschedulable now: it would wait." if waits else "Infeasible: waiting would not help.")
    for line in answer["text"].splitlines():
        _say(out, line)
    if each and answer["groups"]:
        _groups(out, answer["groups"])
    if waits and answer["groups"]:
        _say(out, "")
        _say(out, "`greenroom machines` lists what stands on each machine.")


def _say(out: Output, line: str) -> None:
    """A line that goes on under its own beginning where the screen ends."""
    from textwrap import fill

    indent = " " * (len(line) - len(line.lstrip()) + 4)
    width = out.console().width
    out.say(fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))


def _groups(out: Output, found: Sequence[Json]) -> None:
    """Each group of machines: the first rule that refused it, why, which they are, and what would silence the rule."""
    for zone, inside in groupby(found, key=lambda one: str(one["zone"])):
        some = list(inside)
        out.say("")
        out.say(f"zone {zone}, {_count(some[0]['of'])}")
        for one in some:
            _say(out, f"  {len(one['machines'])} refused by {one['rule']} ({_names(one['machines'])}): {one['why']}")
            _say(out, f"    for this rule alone: {one['remedy']}")


def _count(machines: int) -> str:
    return "1 machine" if machines == 1 else f"{machines} machines"


def _names(machines: Sequence[str]) -> str:
    more = f" and {len(machines) - NAMED} more" if len(machines) > NAMED else ""
    return ", ".join(machines[:NAMED]) + more
