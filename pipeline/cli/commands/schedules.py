"""`schedule`: regular runs."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from pipeline.cli.commands import DryRun, Json, Project, Target, guarded
from pipeline.cli.output import REFUSED, Complaint, Output

schedule = typer.Typer(help="Schedules: runs that begin by the clock.", no_args_is_help=True)
Id = Annotated[str, typer.Argument(metavar="SCHEDULE", help="its id, as `greenroom schedule ls` shows it")]


@schedule.command("add")
def add(
    target: Target = "",
    *,
    cron: Annotated[str, typer.Option(help='five fields, such as "0 2 * * *": minute, hour, day, month, weekday')],
    timezone: Annotated[str, typer.Option(help="by whose clocks, such as Europe/Berlin")] = "UTC",
    overlap: Annotated[
        Literal["skip", "allow"], typer.Option(help="while its last run is not finished: leave it out, or start it")
    ] = "skip",
    missed: Annotated[
        Literal["run-once", "skip"], typer.Option(help="what fell due while nothing ran: one run for all, or none")
    ] = "run-once",
    priority: Annotated[Literal["interactive", "push", "nightly"], typer.Option(help="who goes first")] = "nightly",
    project: Project = "",
    json: Json = False,
) -> None:
    """Add a schedule."""
    from pipeline.cli import schedules as render
    from pipeline.cli.client import connect
    from pipeline.cli.targets import project_of, repository_url, split_ref

    client, out = connect(), Output(json)
    name, ref = split_ref(target)
    repository = repository_url(name)
    body = {
        "project": project_of(client, project, repository), "repository": repository, "ref": ref or "HEAD",
        "cron": cron, "timezone": timezone, "overlap": overlap, "missed": missed, "priority": priority,
    }  # fmt: skip
    added = client.post("/v1/schedules", body)
    if json:
        out.data(added)
    else:
        render.one(out, added)


@schedule.command("ls")
def schedules(*, project: Project = "", json: Json = False) -> None:
    """List the schedules, those of greenroom.yml files, too."""
    from pipeline.cli import schedules as render
    from pipeline.cli.client import connect

    found = connect().get("/v1/schedules", **({"project": project} if project else {}))
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.table(out, found)


@schedule.command("show")
def show(id: Id, *, json: Json = False) -> None:
    """Show one schedule: when it is due, and what became of the last due time."""
    from pipeline.cli import schedules as render
    from pipeline.cli.client import connect, segment

    found, out = connect().get(f"/v1/schedules/{segment(id)}"), Output(json)
    if json:
        out.data(found)
    else:
        render.one(out, found)


@schedule.command("rm")
def remove(
    id: Id,
    *,
    reason: guarded.Reason = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Remove a schedule; its runs stay."""
    from pipeline.cli.client import connect, segment

    gone = connect().delete(f"/v1/schedules/{segment(id)}", dry_run=int(dry_run), reason=reason)
    out = Output(json)
    if json:
        out.data(gone)
    else:
        what = "could be removed; nothing was changed" if dry_run else "is removed; its runs stay"
        out.say(f"schedule {gone['id']} ({gone['cron']} {gone['timezone']}, {gone['project']}) {what}")


@schedule.command("run-now")
def run_now(id: Id, *, json: Json = False) -> None:
    """Start a schedule's run now; its due times stay."""
    from pipeline.cli import watch
    from pipeline.cli.client import connect, segment

    client, out = connect(), Output(json)
    trigger = client.post(f"/v1/schedules/{segment(id)}/run-now")
    with out.waiting("Reading greenroom.yml"):
        trigger = watch.planned(client, trigger["id"])
    if json:
        out.data(trigger)
    if not trigger["run"]:
        raise Complaint(f"nothing is run: {trigger['reason']}", REFUSED)
    out.say(f"{trigger['run']} is asked for; `greenroom logs -f {trigger['run']}` shows it")
