"""`guards`, `audit`: what dangerous acts must pass, and what became of them."""

from __future__ import annotations

from typing import Any

from pipeline.cli.commands import Json
from pipeline.cli.output import Output


def guards(*, json: Json = False) -> None:
    """List the guards that every destructive act must pass."""
    from pipeline.domain.guards import GUARDS

    out = Output(json)
    if json:
        out.data(
            [
                {"guard": one.name, "acts": sorted(one.acts), "refuses_when": one.refuses_when, "remedy": one.remedy}
                for one in GUARDS
            ]
        )
        return
    rows = [(one.name, ", ".join(sorted(one.acts)), one.refuses_when, one.remedy) for one in GUARDS]
    out.table(("guard", "asked before", "refuses when", "what would have to change"), rows)


def audit(*, json: Json = False) -> None:
    """List who did what dangerous and why, and what the guards refused."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().get("/v1/audit")
    out = Output(json)
    if json:
        out.data(found)
        return
    rows = [
        (render.moment(one["at"]), one["act"], one["target"], _outcome(one), f"{one['who']}: {one['why']}")
        for one in found
    ]
    out.table(("when", "act", "target", "outcome", "who and why"), rows)


def _outcome(one: dict[str, Any]) -> str:
    if one["refused"]:
        return f"refused by {one['refused']}: {one['because']}"
    if one["verified"] is not None:
        return "verified: it is gone" if one["verified"] else f"not verified: still there: {one['still']}"
    if one["keys"]:
        return ", ".join(one["keys"])
    told = "dry run" if one["dry_run"] else "passed"
    overridden = ", ".join(f"{guard} ({reason})" for guard, reason in one["overridden"].items())
    return f"{told}, overriding {overridden}" if overridden else told
