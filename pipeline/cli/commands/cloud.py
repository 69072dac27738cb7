"""`cloud`: what an operator changes of a provider's cloud itself; every act passes the gate."""

from __future__ import annotations

import os
import time
from enum import StrEnum
from json import dumps
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.commands import Json, guarded
from pipeline.cli.output import FAILED, OK, REFUSED, USAGE, Complaint, Output

cloud = typer.Typer(help="A provider's cloud itself: flavors, images, networks, machines.", no_args_is_help=True)
Provider = Annotated[str, typer.Option("--provider", help="whose cloud; else the usual provider")]
#: What one act may take, and between two questions, in seconds.
ACT_S = 300.0
LOOK_S, AGAIN_S = 0.3, 5.0


class Deletable(StrEnum):
    """What may be deleted."""

    FLAVOR = "flavor"
    IMAGE = "image"
    NETWORK = "network"


@cloud.command("delete")
def delete(
    kind: Deletable,
    name: Annotated[str, typer.Argument(help="its name, or its id")],
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Delete a flavor, an image or a network; refused while a server or a port of any project uses it."""
    _do(Output(json), provider, "delete", kind.value, name, guarded.wish(reason, override, dry_run=dry_run))


@cloud.command("machine-out")
def machine_out(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    wait: Annotated[float, typer.Option("--wait", help="seconds to wait until nothing is on it any more")] = 0.0,
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Take a machine out of service: no new servers, and when the last is gone, its agent may be restarted.

    The exit status is 1 while something is on it.
    """
    body = _body("take-out", "machine", name, guarded.wish(reason, override, dry_run=dry_run))
    out, deadline = Output(json), time.monotonic() + wait
    done = _act(out, provider, body)
    while done["left"] and not dry_run and time.monotonic() < deadline:
        time.sleep(AGAIN_S)
        done = _act(out, provider, body)
    _tell(out, done)
    raise typer.Exit(FAILED if done["left"] and not dry_run else OK)


@cloud.command("machine-in")
def machine_in(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Put a machine back into service."""
    _do(Output(json), provider, "put-back", "machine", name, guarded.wish(reason, override, dry_run=dry_run))


@cloud.command("may-restart")
def may_restart(
    name: str,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    json: Json = False,
) -> None:
    """Ask whether a machine's agent may be restarted; refused while it is in service, or something is on it."""
    _do(Output(json), provider, "restart-agent", "machine", name, guarded.wish(reason, override, dry_run=False))


@cloud.command("take-back")
def take_back(
    environment: Annotated[str, typer.Argument(help="the id of an environment that is over, or in no book")],
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Remove what an environment left that is over or in no book, by its mark alone; `leftovers` shows it."""
    wish = guarded.wish(reason, override, dry_run=dry_run)
    _do(Output(json), provider, "take-back", "environment", environment, wish)


@cloud.command("setup")
def setup(
    project: Annotated[str, typer.Argument(help="the project of Greenroom")],
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    network: Annotated[str, typer.Option("--network", help="its network; else that of the provider's settings")] = "",
    cidr: Annotated[str, typer.Option("--cidr", help="addresses of the network, where one is made")] = "10.40.0.0/24",
    external_network: Annotated[str, typer.Option("--external-network", help="a router leads there")] = "",
    access_rules: Annotated[
        bool, typer.Option("--access-rules", help="the credential may call only what Greenroom calls")
    ] = False,
    renew: Annotated[bool, typer.Option("--renew", help="a new credential in the place of one that is there")] = False,
    clouds_file: Annotated[
        Path | None, typer.Option("--clouds-file", help="a new file for the credential, readable by its owner alone")
    ] = None,
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Give a project a cloud project of its own: quotas, a user of the role `member`, a network and a credential.

    What is there already is left alone, and a name that is not ours is refused. The credential is told once.
    """
    from pipeline.cli.client import connect
    from pipeline.cli.deployment import settings
    from pipeline.cli.waiting import finished

    if clouds_file is not None and clouds_file.exists():
        raise Complaint(f"{clouds_file} is there already: name a file that is not, and put the two together", USAGE)
    client, out, where = connect(), Output(json), provider or settings().default_provider
    body = {
        "project": project,
        "network": network,
        "cidr": cidr,
        "external_network": external_network,
        "access_rules": access_rules,
        "renew": renew,
        **guarded.wish(reason, override, dry_run=dry_run),
    }
    id = client.post(f"/v1/providers/{where}/setups", body)["id"]
    late = f"setup {id} is not finished after {ACT_S:.0f} s; see the workers' logs, and ask again"
    with out.waiting(f"Setting {project} up at {where}"):
        done = finished(client, f"/v1/setups/{id}", within_s=ACT_S, look_s=LOOK_S, late=late)
    if done["fault"]:
        raise Complaint(done["fault"], REFUSED if done["refused"] else FAILED)
    told = client.post(f"/v1/setups/{id}/credential") if done["has_secret"] else None
    if told is not None and clouds_file is not None:
        _write_entry(clouds_file, told)
    _tell_setup(out, done, told, clouds_file)


def _write_entry(file: Path, told: dict[str, Any]) -> None:
    """A clouds.yaml of one entry; JSON is YAML. Nobody else can read it, not even for a moment."""
    text = dumps({"clouds": {told["name"]: told["entry"]}}, indent=2) + "\n"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
        opened.write(text)


def _tell_setup(out: Output, done: dict[str, Any], told: dict[str, Any] | None, file: Path | None) -> None:
    from pipeline.cli import render

    if out.as_json:
        shown = told if file is None else told and {"name": told["name"], "clouds_file": str(file)}
        out.data({**done, "credential": shown})
        return
    state = ("to be made" if done["dry_run"] else "made", "there")
    rows = [
        (one["part"], render.plain(one["name"]), state[one["there"]], render.plain(one["text"]))
        for one in done["steps"]
    ]
    out.table(("part", "name", "state", "what it is"), rows)
    if told is None:
        if not done["dry_run"]:
            out.say("the credential was there, and its secret cannot be told again: `--renew` makes another")
        return
    if file is None:
        out.say("the credential, told this once; put it into the clouds.yaml of the provider:")
        out.stream(dumps({told["name"]: told["entry"]}, indent=2) + "\n")
    else:
        out.say(f"the credential is in {file}")
    out.say(f'next: `projects = {{{done["project"]} = "{told["name"]}"}}` in the provider\'s settings')


@cloud.command("leftovers")
def leftovers(
    provider: Annotated[str, typer.Argument(metavar="[PROVIDER]", help="else the usual provider")] = "",
    *,
    json: Json = False,
) -> None:
    """Look for what hangs about in a cloud: ours without an environment, and what nothing uses; nothing is removed."""
    from pipeline.cli import render
    from pipeline.cli.client import connect
    from pipeline.cli.deployment import settings
    from pipeline.cli.waiting import tried_again

    client, out, where = connect(), Output(json), provider or settings().default_provider
    path = f"/v1/providers/{where}/leftovers"
    asked = client.post(path)["tried_at"]
    late = f"{where} was not looked at within {ACT_S:.0f} s; see the workers' logs"
    with out.waiting(f"Looking for leftovers at {where}"):
        seen = tried_again(client, path, asked, within_s=ACT_S, look_s=LOOK_S, late=late)
    if seen["fault"]:
        raise Complaint(f"leftovers at {where} could not be looked for: {seen['fault']}", FAILED)
    if json:
        out.data(seen)
        return
    rows = [
        (
            one["kind"],
            render.plain(one["name"] or one["id"]),
            render.plain(one["project"]),
            render.ago(one["since"], time.time()),
            render.plain(one["text"] + (f"\n  next: {one['action']}" if one["action"] else "")),
        )
        for one in seen["found"]
    ]
    if rows:
        out.table(("kind", "name", "project", "first seen", "what it is"), rows)
    else:
        out.say(f"nothing hangs about at {where}")


def _do(out: Output, provider: str, verb: str, kind: str, name: str, wish: dict[str, Any]) -> None:
    """Ask for an act, and tell what came of it."""
    _tell(out, _act(out, provider, _body(verb, kind, name, wish)))


def _body(verb: str, kind: str, name: str, wish: dict[str, Any]) -> dict[str, Any]:
    return {"verb": verb, "kind": kind, "name": name, **wish}


def _act(out: Output, provider: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask, and wait for the end; Complaint when it was refused or failed."""
    from pipeline.cli.client import connect
    from pipeline.cli.deployment import settings
    from pipeline.cli.waiting import finished

    client, where = connect(), provider or settings().default_provider
    id = client.post(f"/v1/providers/{where}/acts", body)["id"]
    late = f"act {id} is not finished after {ACT_S:.0f} s; see the workers' logs, and ask again"
    with out.waiting(f"Asking the cloud of {where}"):
        done = finished(client, f"/v1/acts/{id}", within_s=ACT_S, look_s=LOOK_S, late=late)
    if done["fault"]:
        raise Complaint(done["fault"], REFUSED if done["refused"] else FAILED)
    return done


def _tell(out: Output, done: dict[str, Any]) -> None:
    if out.as_json:
        out.data(done)
    else:
        out.say(done["outcome"])
