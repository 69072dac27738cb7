"""`env`: environments on request, from the wish to the end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commands import Browser, Count, Json, Project, Repository, Words, guarded
from pipeline.cli.output import FAILED, USAGE, Complaint, Output

if TYPE_CHECKING:
    from pipeline.cli.client import Client

env = typer.Typer(help="Environments on request: whole, yours for a time, given back.", no_args_is_help=True)
#: What a person names: an environment's id, a unique part of it, or its name.
Name = Annotated[str, typer.Argument(metavar="ENV", help="its id, a unique part of it, its name, or `last`")]
Done = Annotated[bool, typer.Option("--wait", "-w", help="until it is done; exit status 1 if it cannot be")]
Duration = Annotated[str, typer.Argument(metavar="DURATION", help="such as 30m or 1h30m")]


@env.command("create")
def create(
    *,
    project: Project = "",
    template: Annotated[str, typer.Option("--template", "-t", help="a blueprint that is kept under this name")] = "",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="a greenroom.yml of yours", exists=True, dir_okay=False)
    ] = None,
    repository: Repository = "",
    ref: Annotated[str, typer.Option(help="branch, tag or commit; its greenroom.yml unless another is given")] = "",
    name: Annotated[str, typer.Option(help="another word for its id")] = "",
    why: Annotated[str, typer.Option(help="what it is for")] = "",
    ttl: Annotated[str, typer.Option(help="how long it lives; default: the project's")] = "",
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", "-k", help="file with public SSH keys; else one is made", exists=True, dir_okay=False),
    ] = None,
    keys_of: Annotated[
        str, typer.Option("--keys-of", metavar="USER", help="take this forge user's public keys; or HOST/USER")
    ] = "",
    key_out: Annotated[Path | None, typer.Option(help="where to write the key that is made")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", "-w", help="until it is ready; exit status 1 if it will not be")
    ] = False,
    json: Json = False,
) -> None:
    """Ask for an environment."""
    from pipeline.cli import environments as shown
    from pipeline.cli.client import connect
    from pipeline.cli.targets import project_of, repository_url

    if (key or keys_of) and key_out:
        raise Complaint("--key or --keys-of, and --key-out: no key is made where one is given", USAGE)
    client, out, place = connect(), Output(json), repository_url(repository)
    body = {
        "project": project_of(client, project, place), "template": template, "repository": place, "ref": ref,
        "blueprint": file.read_text() if file else "", "name": name, "why": why, "ttl": ttl or None,
        "owner": shown.person(), "public_keys": [line for one in key or () for line in shown.key_lines(one)],
        "ssh_keys_from": keys_of,
    }  # fmt: skip
    made = client.post("/v1/environments", body)
    if key_out:
        shown.write_key(key_out, made.pop("private_key"))
    if wait:
        found = shown.wait(client, out, made["id"])
        made = {**made, **found}
    if json:
        out.data(made)
    else:
        shown.made(out, made, key_out)
    if wait and not made["contract"]["ready_at"]:
        raise typer.Exit(FAILED)


@env.command("ls")
def environments(
    *,
    project: Project = "",
    owner: Annotated[str, typer.Option(help="asked for by this person")] = "",
    state: Annotated[str, typer.Option(help="requested, building, leased, held, ...")] = "",
    limit: Count = 20,
    json: Json = False,
) -> None:
    """List the environments, newest first."""
    from pipeline.cli import environments as shown
    from pipeline.cli.client import connect

    filters = {"project": project, "owner": owner, "state": state}
    found = connect().items("/v1/environments", limit, **{key: value for key, value in filters.items() if value})
    out = Output(json)
    if json:
        out.data(found)
    else:
        shown.several(out, found)


@env.command("show")
def show(environment: Name, *, json: Json = False) -> None:
    """Show one environment: its contract and its nodes."""
    from pipeline.cli import environments as shown

    client, id = _one(environment)
    found = client.get(f"/v1/environments/{id}")
    out = Output(json)
    if json:
        out.data(found)
    else:
        shown.one(out, found)


def ssh(
    environment: Name,
    words: Words = None,
) -> None:
    """Log in to a node, or run a command there; its exit status is passed on."""
    from pipeline.cli import login
    from pipeline.cli.commands.runs import split_command
    from pipeline.cli.targets import node_name

    node, command = split_command(words or [])
    client, id = _one(environment)
    access = client.post(f"/v1/environments/{id}/ssh")
    raise typer.Exit(login.log_in(access, node_name(node, access["nodes"]), command))


def run(
    environment: Name,
    words: Annotated[
        list[str], typer.Argument(metavar="[ON] -- COMMAND...", help="on web, web[1] or all, which is the default")
    ],
) -> None:
    """Run a command on its nodes, one after the other; the first exit status that is not 0 is passed on."""
    from pipeline.cli import environments as shown
    from pipeline.cli.commands.runs import split_command
    from pipeline.cli.login import remote

    on, command = split_command(words)
    if not command:
        raise Complaint("which command? Put it behind `--`", USAGE)
    client, id = _one(environment)
    asked = client.post(f"/v1/environments/{id}/run", {"on": on or "all", "command": remote(command)[1]})
    raise typer.Exit(shown.output(client, Output(), asked))


@env.command("open")
def open_(
    environment: Name,
    *,
    browser: Browser = False,
    json: Json = False,
) -> None:
    """Say where it is reached through the router, and open that if you like."""
    from pipeline.cli import opening

    client, id = _one(environment)
    found = client.get(f"/v1/environments/{id}/address")
    opening.tell(found, f"greenroom env show {id}", browser=browser, json=json)


@env.command("extend")
def extend(environment: Name, by: Duration, *, json: Json = False) -> None:
    """Let it live longer, within its project's maximum."""
    _change(environment, "extend", {"by": by}, json=json)


@env.command("hold")
def hold(
    environment: Name,
    duration: Duration,
    *,
    reason: Annotated[str, typer.Option("--reason", help="why, for whoever needs its room")],
    json: Json = False,
) -> None:
    """Keep it at least for a time, whoever else needs its room."""
    _change(environment, "hold", {"for": duration, "reason": reason}, json=json)


@env.command("protect")
def protect(
    environment: Name,
    *,
    reason: Annotated[str, typer.Option("--reason", help="why nothing may end it")] = "",
    off: Annotated[bool, typer.Option("--off", help="lift it")] = False,
    json: Json = False,
) -> None:
    """Let nothing end it, its time included; or lift that."""
    if bool(reason) == off:
        raise Complaint("say --reason WHY to protect it, or --off to lift that", USAGE)
    _change(environment, "protect", {"reason": reason}, json=json)


@env.command("move")
def move(
    environment: Name,
    role: Annotated[str, typer.Argument(metavar="ROLE", help="the role that goes")],
    *,
    to: Annotated[str, typer.Option(metavar="WHERE", help="bare-metal, vm, zone=NAME or aggregate=NAME")] = "",
    back: Annotated[bool, typer.Option("--back", help="let its old nodes serve on while they stand")] = False,
    keep: Annotated[str, typer.Option(help="how long old nodes stand without traffic; default: 5m")] = "",
    drain: Annotated[str, typer.Option(help="how long what is open there may go on; default: 10s")] = "",
    wait: Done = False,
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Let a role go to other machines while it serves."""
    from pipeline.cli import environments as shown

    if bool(to) == back:
        raise Complaint("say --to WHERE, such as bare-metal or zone=rack-b, or --back to undo that", USAGE)
    client, id = _one(environment)
    body = guarded.wish(reason, override, dry_run=dry_run)
    if back:
        found = client.post(f"/v1/environments/{id}/move/back", {**body, "role": role})
    else:
        wish = {"role": role, "to": to, "keep": keep or None, "drain": drain or None}
        found = client.post(f"/v1/environments/{id}/move", {**body, **wish})
    told = partial(shown.moved, role=role, dry_run=dry_run)
    _tell_change(client, found, told, wait=wait and not dry_run, json=json)


@env.command("scale")
def scale(
    environment: Name,
    wish: Annotated[str, typer.Argument(metavar="ROLE=N", help="how many nodes of a role there are to be")],
    *,
    drain: Annotated[str, typer.Option(help="how long nodes that go get no traffic before; default: 10s")] = "",
    wait: Done = False,
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Let a role have more or fewer nodes."""
    from pipeline.cli import environments as shown

    role, _, count = wish.partition("=")
    if not role or not count.isdecimal():
        raise Complaint(f"{wish!r}: expected ROLE=N, such as web=3", USAGE)
    client, id = _one(environment)
    body = {**guarded.wish(reason, override, dry_run=dry_run), "role": role, "count": int(count)}
    found = client.post(f"/v1/environments/{id}/scale", {**body, "drain": drain or None})
    told = partial(shown.scaled, role=role, dry_run=dry_run)
    _tell_change(client, found, told, wait=wait and not dry_run, json=json)


def _tell_change(client: Client, found: Any, told: Callable[[Any], str], *, wait: bool, json: bool) -> None:
    """What becomes of a change of its nodes; exit status 1 when it was waited for and could not be."""
    from pipeline.cli import environments as shown

    out = Output(json)
    if wait:
        found = shown.wait_scaled(client, out, found["id"])
    if json:
        out.data(found)
    else:
        out.say(told(found))
    if wait and found["degraded"]:
        raise typer.Exit(FAILED)


@env.command("release")
def release(
    environment: Name,
    *,
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Give it back."""
    _change(environment, "release", guarded.wish(reason, override, dry_run=dry_run), json=json)


@env.command("rm")
def remove(
    environment: Name,
    *,
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Give it back, and wait until nothing of it exists."""
    from pipeline.cli import environments as shown

    wish = guarded.wish(reason, override, dry_run=dry_run)
    client, id = _one(environment)
    found, out = client.post(f"/v1/environments/{id}/release", wish), Output(json)
    if not dry_run:
        found = shown.gone(client, out, id)
    if json:
        out.data(found)
    else:
        out.say(f"{id} could be given back; nothing was changed" if dry_run else f"{id} is {found['state']}")


def _change(environment: str, act: str, body: dict[str, Any], *, json: bool) -> None:
    from pipeline.cli import environments as shown

    client, id = _one(environment)
    found = client.post(f"/v1/environments/{id}/{act}", body)
    out = Output(json)
    if json:
        out.data(found)
    else:
        out.say(f"{id} is {found['state']}{shown.until(found)}")


def _one(text: str) -> tuple[Any, str]:
    """The API, and the id of an environment; the command ends when no or more than one fit."""
    from pipeline.cli.client import connect
    from pipeline.cli.environments import the_one

    client = connect()
    return client, the_one(client, text)
