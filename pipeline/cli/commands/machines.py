"""`machines`, `machine`: on what nodes stand; machines taken out of service and put back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.commands import Json, guarded
from pipeline.cli.output import REFUSED, USAGE, Complaint, Output

#: The states of a machine, as a sentence says them.
WORDS = {
    "in-service": "in service",
    "draining": "draining",
    "maintenance": "in maintenance",
    "quarantined": "quarantined",
    "down": "down",
}


machines = typer.Typer(help="Machines: what stands on them, and which are accepted.", invoke_without_command=True)


@machines.callback()
def listed(
    context: typer.Context,
    *,
    provider: Annotated[str, typer.Option(help="of one provider alone")] = "",
    json: Json = False,
) -> None:
    """List the machines of the inventories, with what stands on them; or have one accepted."""
    if context.invoked_subcommand is not None:
        return
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().get("/v1/machines", provider=provider)
    out = Output(json)
    if json:
        out.data(found)
        return
    rows = [
        (
            one["name"],
            one["zone"],
            one["provider"],
            render.machine_state(one),
            one["state_reason"],
            _nodes(one["nodes"]),
        )
        for one in found
    ]
    out.table(("machine", "zone", "provider", "state", "reason", "nodes"), rows)


def _nodes(names: list[str]) -> str:
    """Nodes by their environment, which is named once."""
    found: dict[str, list[str]] = {}
    for environment, _, node in (name.partition("/") for name in names):
        found.setdefault(environment, []).append(node)
    return "; ".join(f"{environment} {', '.join(nodes)}" for environment, nodes in found.items())


machine = typer.Typer(help="Machines: taken out of service and put back.", no_args_is_help=True)
Provider = Annotated[str, typer.Option("--provider", help="whose machine it is, where several have one of that name")]


@machine.command("drain")
def drain(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Let a machine take no more nodes; those on it stay until they are over."""
    _to("draining", name, reason, provider, override, dry_run=dry_run, json=json)


@machine.command("maintenance")
def maintenance(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Take a machine out of service; refused while nodes stand on it."""
    _to("maintenance", name, reason, provider, override, dry_run=dry_run, json=json)


@machine.command("quarantine")
def quarantine(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Let a machine that is suspect take no more nodes."""
    _to("quarantined", name, reason, provider, override, dry_run=dry_run, json=json)


@machine.command("return")
def put_back(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Put a machine back into service."""
    _to("in-service", name, reason, provider, override, dry_run=dry_run, json=json)


def _to(
    state: str, name: str, reason: str, provider: str, override: list[str] | None, *, dry_run: bool, json: bool
) -> None:
    from pipeline.cli.client import connect

    body = {"state": state, **guarded.wish(reason, override, dry_run=dry_run)}
    client, out = connect(), Output(json)
    where = provider or provider_of(client.get("/v1/machines", name=name), name)
    now = client.post(f"/v1/machines/{where}/{name}/state", body)
    if json:
        out.data(now)
    elif dry_run:
        out.say(f"machine {name} could be {WORDS[state]}; it is {WORDS[now['state']]}, nothing was changed")
    else:
        out.say(f"machine {name} is {WORDS[now['state']]}")


def provider_of(found: list[dict[str, Any]], name: str) -> str:
    """The only provider that has a machine of that name."""
    if not found:
        raise Complaint(f"there is no machine {name}; `greenroom machines` shows all", REFUSED)
    if len(found) > 1:
        several = ", ".join(one["provider"] for one in found)
        raise Complaint(f"the providers {several} have a machine {name} each; name one with --provider", USAGE)
    provider: str = found[0]["provider"]
    return provider
