"""`providers`, `servers`: what the providers show, compared with the books."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commands import Json, OneProvider
from pipeline.cli.output import FAILED, Complaint, Output

if TYPE_CHECKING:
    from pipeline.cli.client import Client

providers = typer.Typer(
    help="Providers: when each was looked at; its machines taken over.", invoke_without_command=True
)
#: What a look at a provider may take, and between two questions whether it is over, in seconds.
SURVEY_S = 180.0
LOOK_S = 0.3


@providers.callback()
def list_providers(context: typer.Context, *, json: Json = False) -> None:
    """List the providers, and when each was last looked at."""
    if context.invoked_subcommand is not None:
        return
    from pipeline.cli.client import connect

    out, found = Output(json), connect().get("/v1/providers")
    if json:
        out.data(found)
        return
    columns = ("provider", "driver", "machines", "servers", "alerts", "seen", "trouble")
    out.table(columns, [_provider(one) for one in found])


def _provider(one: dict[str, Any]) -> tuple[str, ...]:
    from pipeline.cli import render

    survey = one["survey"]
    first = (one["name"], one["driver"], str(one["machines"]))
    if survey is None:
        return (*first, "", "", "never", "")
    seen = render.ago(survey["at"], time.time()) if survey["at"] else "never"
    return (*first, str(survey["servers"]), str(survey["alerts"]), seen, render.plain(survey["fault"]))


@providers.command("sync")
def sync(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="else the usual provider")] = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show what would change, change nothing")] = False,
    json: Json = False,
) -> None:
    """Look at a provider now, and take its machines over."""
    from pipeline.cli.client import connect
    from pipeline.cli.commands.inventory import tell_changes
    from pipeline.cli.deployment import settings

    client, out = connect(), Output(json)
    name = name or settings().default_provider
    asked_at = _tried(client.post(f"/v1/providers/{name}/survey"))
    with out.waiting(f"Looking at {name}"):
        seen = _surveyed(client, name, asked_at)
    if seen["fault"]:
        raise Complaint(f"provider {name} could not be looked at: {seen['fault']}", FAILED)
    changed = client.post(f"/v1/providers/{name}/sync", {"dry_run": dry_run}) if seen["tells_machines"] else None
    if json:
        out.data({"provider": name, "survey": seen, "changes": changed})
        return
    if changed is not None:
        tell_changes(out, changed)
    else:
        out.say(f"{name} does not tell its machines: an `admin_cloud` in its settings, or an inventory file, does")
    out.say(f"{seen['servers']} servers, {seen['alerts']} with an alert; `greenroom servers --alerts` shows these")


def _tried(provider: dict[str, Any]) -> float:
    return float(provider["survey"]["tried_at"]) if provider["survey"] else 0.0


def _surveyed(client: Client, name: str, after: float) -> dict[str, Any]:
    """The first survey that was tried after the last one that was there."""
    from pipeline.cli.waiting import until

    late = f"{name} was not looked at within {SURVEY_S:.0f} s; see the workers' logs"
    path = f"/v1/providers/{name}"
    found = until(client, path, lambda one: _tried(one) > after, within_s=SURVEY_S, look_s=LOOK_S, late=late)
    survey: dict[str, Any] = found["survey"]
    return survey


def servers(
    *,
    provider: OneProvider = "",
    project: Annotated[str, typer.Option("--project", "-p", help="of one project alone")] = "",
    alerts: Annotated[bool, typer.Option("--alerts", help="only what is not as it should be")] = False,
    json: Json = False,
) -> None:
    """List servers as they were last seen, with what differs from the books and what to do about it."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    client, out = connect(), Output(json)
    found = client.get("/v1/servers", provider=provider, project=project, alerts="true" if alerts else "false")
    if json:
        out.data(found)
        return
    columns = ("address", "hostname", "role", "service", "hardware", "zone", "state", "seen", "alert")
    now = time.time()
    rows = [
        (
            one["address"] or "-",
            *(render.plain(one[name]) for name in ("hostname", "role", "service")),
            render.plain(", ".join(one["hardware"])),
            *(render.plain(one[name]) for name in ("zone", "state")),
            render.ago(one["seen_at"], now),
            render.plain("\n".join(_told(alert) for alert in one["alerts"])),
        )
        for one in found
    ]
    if rows:
        out.table(columns, rows)
    else:
        out.say("no servers with an alert" if alerts else "no servers were seen; `greenroom providers sync` looks now")


def _told(alert: dict[str, Any]) -> str:
    return f"{alert['drift']}: {alert['text']}" + (f"\n  next: {alert['action']}" if alert["action"] else "")
