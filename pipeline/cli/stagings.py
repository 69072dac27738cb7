"""Stagings: waited for, shown with their slots and their history."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from pipeline.cli.client import Client, segment
from pipeline.cli.output import Output
from pipeline.domain.moments import to_the_second

Json = dict[str, Any]
LOOK_S = 0.2
SLOTS = ("blue", "green")
#: What ends well.
GOOD = frozenset({"deployed", "stays", "rolled back", "approved"})


def path(name: str) -> str:
    return f"/v1/stagings/{segment(name)}"


def wait(client: Client, out: Output, name: str) -> Json:
    """Show how far it is until nothing is under way."""
    said = ""
    while True:
        found: Json = client.get(path(name))
        if found["activity"] != said:
            said = str(found["activity"])
            out.say(f"{name} is {said}")
        if said == "idle" and found["wanted"] is None:
            return found
        time.sleep(LOOK_S)


def went_well(client: Client, name: str) -> bool:
    """Whether the last thing that it did ended well."""
    known = client.get(f"{path(name)}/history")
    return bool(known) and known[-1]["what"] in GOOD


def several(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["name"],
            one["spec"]["project"],
            one["spec"]["domain"],
            one["activity"],
            *(_slot(one, slot) for slot in SLOTS),
        )
        for one in found
    ]
    out.table(("staging", "project", "domain", "activity", *SLOTS), rows)


def one(out: Output, found: Json) -> None:
    """The staging in some lines, and its slots as a table."""
    spec, lock = found["spec"], found["lock"]
    out.say(f"{found['name']} of project {spec['project']} at {spec['domain']}: {found['activity']}")
    if found["wanted"] is not None:
        out.say(f"  waits     {found['wanted']['ref']} is to be deployed")
    if lock is not None:
        out.say(f"  locked    by {lock['who']}: {lock['reason']}")
    columns = ("slot", "state", "ref", "environment", "alone at", "kept until", "fault")
    out.table(columns, [_row(found, slot) for slot in SLOTS])


def history(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            to_the_second(line["at"]), line["what"], line["slot"], line["ref"], line["sha"][:10], line["who"],
            f"{line['seconds']:.3f}" if line["seconds"] else "", line["why"],
        )
        for line in found
    ]  # fmt: skip
    out.table(("entry", "what", "slot", "ref", "commit", "who", "seconds", "why"), rows)


def _slot(found: Json, slot: str) -> str:
    word = f"{found[slot]['state']} {found[slot]['ref']}".strip()
    return f"{word} (live)" if found["live"] == slot else word


def _row(found: Json, slot: str) -> tuple[str, ...]:
    one = found[slot]
    name = f"{slot} (live)" if found["live"] == slot else slot
    kept = to_the_second(one["kept_until"]) if one["kept_until"] else ""
    return name, one["state"], one["ref"], one["environment"], one["url"], kept, one["fault"]
