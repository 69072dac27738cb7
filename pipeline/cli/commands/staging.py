"""`staging`: two slots, one of them live."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.commands import Browser, Json, Project, Repository, guarded
from pipeline.cli.output import FAILED, USAGE, Complaint, Output

staging = typer.Typer(help="Stagings: deploy to the idle slot, promote it, roll back.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="STAGING", help="its name")]
Reason = Annotated[str, typer.Option("--reason", help="why, for its history")]
Wait = Annotated[bool, typer.Option("--wait", "-w", help="until it is done; exit status 1 if it went wrong")]


@staging.command("set")
def put(
    name: Name,
    *,
    role: Annotated[str, typer.Option(help="whose nodes answer requests")],
    port: Annotated[int, typer.Option(help="where they do")],
    project: Project = "",
    domain: Annotated[str, typer.Option(help="default: its name below the base domain")] = "",
    template: Annotated[str, typer.Option("--template", "-t", help="a blueprint that is kept; else each ref's")] = "",
    repository: Repository = "",
    health: Annotated[str, typer.Option(help="path that answers 2xx or 3xx while a node is well")] = "/",
    sticky: Annotated[bool, typer.Option("--sticky", help="a visitor stays with one node")] = False,
    check: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=COMMAND", help="must exit with 0 before a promotion; repeat")
    ] = None,
    watch: Annotated[str, typer.Option(help="for so long a promoted slot is watched")] = "1m",
    max_errors: Annotated[float, typer.Option(help="more errors than this share: it goes back")] = 0.05,
    drain: Annotated[str, typer.Option(help="what is open in the old slot ends then")] = "30s",
    keep: Annotated[str, typer.Option(help="for so long a rollback is one switch")] = "1h",
    keep_warm: Annotated[bool, typer.Option("--keep-warm", help="the old slot stays until the next deploy")] = False,
    approval: Annotated[bool, typer.Option("--approval", help="a promotion needs `approve` first")] = False,
    json: Json = False,
) -> None:
    """Make a staging, or say anew what is wanted of it."""
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect
    from pipeline.cli.targets import project_of, repository_url

    client, place = connect(), repository_url(repository)
    body = {
        "project": project_of(client, project, place), "role": role, "port": port, "domain": domain,
        "blueprint": template, "repository": place, "health": health, "sticky": sticky,
        "checks": [_check(one) for one in check or ()], "watch": watch, "max_errors": max_errors, "drain": drain,
        "keep": keep, "keep_warm": keep_warm, "approval": approval,
    }  # fmt: skip
    _tell(client.put(shown.path(name), body), json=json)


def _check(text: str) -> dict[str, str]:
    role, _, run = text.partition("=")
    if not role or not run.strip():
        raise Complaint(f"--check {text}: expected ROLE=COMMAND", USAGE)
    return {"role": role, "run": run}


@staging.command("ls")
def several(*, project: Project = "", json: Json = False) -> None:
    """List the stagings."""
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect

    found = connect().get("/v1/stagings", **({"project": project} if project else {}))
    out = Output(json)
    if json:
        out.data(found)
    else:
        shown.several(out, found)


@staging.command("show")
def show(name: Name, *, json: Json = False) -> None:
    """Show a staging: its slots, and what it does now."""
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect

    _tell(connect().get(shown.path(name)), json=json)


@staging.command("open")
def open_(name: Name, *, browser: Browser = False, json: Json = False) -> None:
    """Say where it is reached through the router, and open that if you like."""
    from pipeline.cli import opening
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect

    found = connect().get(f"{shown.path(name)}/address")
    opening.tell(found, f"greenroom staging show {name}", browser=browser, json=json)


@staging.command("history")
def history(name: Name, *, json: Json = False) -> None:
    """Show who deployed, promoted and rolled back what, and when."""
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect

    found, out = connect().get(f"{shown.path(name)}/history"), Output(json)
    if json:
        out.data(found)
    else:
        shown.history(out, found)


@staging.command("deploy")
def deploy(
    name: Name,
    ref: Annotated[str, typer.Argument(metavar="REF", help="branch, tag or commit")],
    *,
    reason: Reason = "",
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Deliver a ref to the idle slot and run its stages there."""
    from pipeline.cli.environments import person

    _ask(name, "deploy", {"ref": ref, "who": person(), "reason": reason}, wait=wait, json=json)


@staging.command("promote")
def promote(
    name: Name,
    *,
    reason: Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Check the idle slot, make it live, and watch it: it goes back by itself when it is bad."""
    _ask(name, "promote", _wish(reason, override, dry_run=dry_run), wait=wait and not dry_run, json=json)


@staging.command("rollback")
def rollback(
    name: Name,
    *,
    reason: Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    wait: Wait = False,
    json: Json = False,
) -> None:
    """Make the slot live again that was so before: one switch, within the keep time."""
    _ask(name, "rollback", _wish(reason, override, dry_run=dry_run), wait=wait and not dry_run, json=json)


@staging.command("approve")
def approve(name: Name, *, reason: Reason = "", json: Json = False) -> None:
    """Let the idle slot be promoted, where that needs approval."""
    _ask(name, "approve", _wish(reason, None, dry_run=False), wait=False, json=json)


@staging.command("lock")
def lock(
    name: Name,
    *,
    reason: Annotated[str, typer.Option("--reason", help="why, for whoever wants to deploy")],
    json: Json = False,
) -> None:
    """Let nobody deploy, promote or remove; a rollback is always possible."""
    _ask(name, "lock", _wish(reason, None, dry_run=False), wait=False, json=json)


@staging.command("unlock")
def unlock(name: Name, *, reason: Reason = "", json: Json = False) -> None:
    """End the lock."""
    _ask(name, "unlock", _wish(reason, None, dry_run=False), wait=False, json=json)


@staging.command("rm")
def remove(
    name: Name,
    *,
    reason: Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Take both slots back and forget the staging; a live one needs --override traffic=REASON."""
    _ask(name, "remove", _wish(reason, override, dry_run=dry_run), wait=False, json=json)


def _wish(reason: str, override: list[str] | None, *, dry_run: bool) -> dict[str, Any]:
    from pipeline.cli.environments import person

    return {**guarded.wish(reason, override, dry_run=dry_run), "who": person()}


def _ask(name: str, act: str, body: dict[str, Any], *, wait: bool, json: bool) -> None:
    from pipeline.cli import stagings as shown
    from pipeline.cli.client import connect

    client = connect()
    found = client.post(f"{shown.path(name)}/{act}", body)
    if wait:
        found = shown.wait(client, Output(json), name)
    if not json and body.get("dry_run"):
        Output().say(f"{act} of {name} would be taken on; nothing was changed")
        return
    _tell(found, json=json)
    if wait and not shown.went_well(client, name):
        raise typer.Exit(FAILED)


def _tell(found: Any, *, json: bool) -> None:
    from pipeline.cli import stagings as shown

    out = Output(json)
    if json:
        out.data(found)
    else:
        shown.one(out, found)
