"""`pool`: environments that are kept ready."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.commands import DryRun, Json, Project
from pipeline.cli.output import Output

pool = typer.Typer(help="Warm pools: environments of a template, kept ready to be handed out.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="POOL")]


@pool.command("set")
def set_(
    name: Name,
    *,
    ready: Annotated[int, typer.Option(help="so many are kept ready")],
    template: Annotated[str, typer.Option("--template", "-t", help="default: the one of the pool's name")] = "",
    most: Annotated[int, typer.Option("--max", help="so many stand, handed out ones included; default: 2 x ready")] = 0,
    max_age: Annotated[str, typer.Option(help="so long one is kept ready; default: 8h")] = "",
    project: Project = "",
    json: Json = False,
) -> None:
    """Keep environments of a template ready, or change how many."""
    from pipeline.cli import pools as shown
    from pipeline.cli.client import connect, segment
    from pipeline.cli.targets import project_of

    client, out = connect(), Output(json)
    body = {
        "project": project_of(client, project, ""), "template": template, "ready": ready,
        "max": most or None, "max_age": max_age or None,
    }  # fmt: skip
    kept = client.put(f"/v1/pools/{segment(name)}", body)
    if json:
        out.data(kept)
    else:
        shown.one(out, kept)


@pool.command("ls")
def pools(*, json: Json = False) -> None:
    """List the warm pools."""
    from pipeline.cli import pools as shown
    from pipeline.cli.client import connect

    found, out = connect().get("/v1/pools"), Output(json)
    if json:
        out.data(found)
    else:
        shown.table(out, found)


@pool.command("show")
def show(name: Name, *, json: Json = False) -> None:
    """Show one warm pool: what is ready, what is handed out, and why it is short."""
    from pipeline.cli import pools as shown
    from pipeline.cli.client import connect, segment

    found, out = connect().get(f"/v1/pools/{segment(name)}"), Output(json)
    if json:
        out.data(found)
    else:
        shown.one(out, found)


@pool.command("rm")
def remove(name: Name, *, dry_run: DryRun = False, json: Json = False) -> None:
    """Remove a warm pool; what it keeps ready is taken back, what it handed out stays."""
    from pipeline.cli.client import connect, segment

    gone, out = connect().delete(f"/v1/pools/{segment(name)}", dry_run=int(dry_run)), Output(json)
    if json:
        out.data(gone)
    else:
        what = "could be removed; nothing was changed" if dry_run else "is removed"
        out.say(f"warm pool {gone['name']} of template {gone['template']} {what}")
