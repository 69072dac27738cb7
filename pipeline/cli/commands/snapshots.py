"""`snapshot`: disks of nodes that are kept as images."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.commands import Json, Project, guarded
from pipeline.cli.output import Output

snapshot = typer.Typer(help="Snapshots: disks of nodes, kept as images for blueprints.", no_args_is_help=True)
Provider = Annotated[str, typer.Argument(metavar="PROVIDER")]


@snapshot.command("take")
def take(
    environment: Annotated[str, typer.Argument(metavar="ENV")],
    *,
    node: Annotated[str, typer.Option(help="whose disk; may be left out where there is one node")] = "",
    name: Annotated[str, typer.Option(help="default: that of the environment and the node")] = "",
    json: Json = False,
) -> None:
    """Keep a node's disk as an image. It is saved while the node goes on: write out first what must be in it."""
    from pipeline.cli.client import connect
    from pipeline.cli.environments import the_one

    client, out = connect(), Output(json)
    taken = client.post(f"/v1/environments/{the_one(client, environment)}/snapshot", {"node": node, "name": name})
    if json:
        out.data(taken)
    else:
        out.say(f"snapshot {taken['name']} of node {taken['node']} is {taken['state']}; as an image: {taken['image']}")


@snapshot.command("ls")
def ls(provider: Provider, *, json: Json = False) -> None:
    """List the snapshots that a provider keeps."""
    from pipeline.cli.client import connect, segment
    from pipeline.cli.render import moment

    found, out = connect().get(f"/v1/providers/{segment(provider)}/snapshots"), Output(json)
    if json:
        out.data(found)
        return
    rows = [
        (one["name"], one["project"], one["state"], f"{one['size'] / 2**20:.0f} MiB", moment(one["taken_at"]),
         f"{one['environment']} {one['node']}")
        for one in found
    ]  # fmt: skip
    out.table(("snapshot", "project", "state", "size", "taken", "of"), rows)


@snapshot.command("rm")
def remove(
    provider: Provider,
    name: Annotated[str, typer.Argument(metavar="SNAPSHOT")],
    *,
    project: Project = "",
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Remove a snapshot; refused while anything was made of it and is there."""
    from pipeline.cli.client import connect, segment

    body = {"project": project, **guarded.wish(reason, override, dry_run=dry_run)}
    gone = connect().post(f"/v1/providers/{segment(provider)}/snapshots/{segment(name)}/remove", body)
    out = Output(json)
    if json:
        out.data(gone)
    else:
        what = "could be removed; nothing was changed" if dry_run else "is removed"
        out.say(f"snapshot {gone['name']} of project {gone['project']} {what}")
