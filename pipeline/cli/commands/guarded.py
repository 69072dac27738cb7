"""What every command has whose act passes the gate: why, overrides, a dry run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from pipeline.cli.output import USAGE, Complaint

Reason = Annotated[str, typer.Option("--reason", help="why, for whoever reads the audit")]
Override = Annotated[
    list[str] | None, typer.Option("--override", metavar="GUARD=REASON", help="pass a guard; once for each")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="ask the guards, change nothing")]


def wish(reason: str, override: Sequence[str] | None, *, dry_run: bool) -> dict[str, Any]:
    """The body of the request; the command ends when an override gives no reason."""
    pairs = [one.partition("=") for one in override or ()]
    for guard, _, why in pairs:
        if not why.strip():
            raise Complaint(f"--override {guard}: expected GUARD=REASON; `greenroom guards` lists them", USAGE)
    return {"reason": reason, "overrides": {guard: why for guard, _, why in pairs}, "dry_run": dry_run}
