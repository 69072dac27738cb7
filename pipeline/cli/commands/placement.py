"""`place`: where nodes would stand."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.commands import Json, files
from pipeline.cli.output import FAILED, OK, REFUSED, Output

#: Exit statuses of `place`, by the answer.
STATUS = {"placed": OK, "unschedulable": FAILED, "infeasible": REFUSED}


def place(
    file: files.Blueprint = files.BLUEPRINT,
    *,
    explain: Annotated[
        bool, typer.Option("--explain", help="why there, or each group of machines with the rule that refused it")
    ] = False,
    provider: Annotated[str, typer.Option(help="where; else as the blueprint or the project says")] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="for whom: its quota and provider count")] = "",
    json: Json = False,
) -> None:
    """Try out where the nodes of a greenroom.yml would stand now; nothing is reserved."""
    from pipeline.cli.client import connect

    text = files.text_of(files.blueprint_in(file))
    answer = connect().post("/v1/placements", {"blueprint": text, "provider": provider, "project": project})
    out = Output(json)
    if json:
        out.data(answer)
    else:
        _tell(out, answer, explain=explain)
    raise typer.Exit(STATUS[answer["answer"]])


def _tell(out: Output, answer: dict[str, Any], *, explain: bool) -> None:
    from pipeline.cli import placements as render

    if answer["answer"] == "placed":
        render.placed(out, answer, why=explain)
        return
    render.refused(out, answer, each=explain)
