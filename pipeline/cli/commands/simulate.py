"""`simulate`: a program of its own, as entry points know nothing of each other."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.commands import Json


def simulate(
    scenario: Annotated[
        str, typer.Argument(metavar="SCENARIO", help="a file, or one of day, rack-loss, push-storm, bad-machine")
    ],
    *,
    draw: Annotated[Path | None, typer.Option(metavar="FILE", help="write a page with charts, too")] = None,
    json: Json = False,
) -> None:
    """Let a day of load pass in virtual time: who waits, what is refused and why, how full it gets."""
    from pipeline.cli import programs

    argv = [sys.executable, "-m", "pipeline.simulation", scenario]
    argv += ["--json"] if json else []
    argv += ["--draw", str(draw)] if draw is not None else []
    raise typer.Exit(programs.call(argv))
