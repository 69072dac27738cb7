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
    page: Annotated[Path | None, typer.Option(metavar="FILE", help="write a page with charts, too")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="other dice than the scenario's")] = None,
    json: Json = False,
) -> None:
    """Let a day of load pass in virtual time: who waits, what is refused and why, how full it gets.

    The exit status is 1 when a promise was broken, 2 when the scenario is wrong.
    """
    from pipeline.cli import programs

    argv = [sys.executable, "-m", "pipeline.simulation", scenario]
    argv += ["--json"] if json else []
    argv += ["--page", str(page)] if page is not None else []
    argv += ["--seed", str(seed)] if seed is not None else []
    raise typer.Exit(programs.call(argv))
