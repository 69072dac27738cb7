"""`cloud`: what an operator changes of a provider's cloud itself; every act passes the gate."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli.commands import Json, Machine, guarded
from pipeline.cli.output import FAILED, OK, REFUSED, Complaint, Output

cloud = typer.Typer(help="A provider's cloud itself: flavors, images, networks, machines.", no_args_is_help=True)
Provider = Annotated[str, typer.Option("--provider", help="whose cloud; else the usual provider")]
#: What one act may take, and between two questions, in seconds.
ACT_S = 300.0
#: The same of one that moves servers off a machine.
MOVE_S = 6 * 3600.0
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


class Policy(StrEnum):
    """What becomes of the servers on a machine."""

    DISABLE = "disable"
    MIGRATE = "migrate"
    EVACUATE = "evacuate"


@cloud.command("machine-out")
def machine_out(
    name: Machine,
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    policy: Annotated[
        Policy,
        typer.Option(
            "--policy",
            help="disable: servers stay until they end; migrate: they are moved away; evacuate: the machine is dead, "
            "so they are built elsewhere from their images",
        ),
    ] = Policy.DISABLE,
    at_once: Annotated[int, typer.Option("--at-once", min=1, max=16, help="servers that move at a time")] = 2,
    wait: Annotated[float, typer.Option("--wait", help="seconds to wait until nothing is on it any more")] = 0.0,
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Take a machine out of service: no new servers, and when the last is gone, its agent may be restarted.

    With --policy, servers are moved or built elsewhere one by one, each past the gate and seen on another machine. It
    goes on when this command is broken off. The exit status is 1 while something is on it.
    """
    body = _body("take-out", "machine", name, guarded.wish(reason, override, dry_run=dry_run))
    body |= {"policy": policy.value, "at_once": at_once}
    out, deadline = Output(json), time.monotonic() + wait
    done = _act(out, provider, body)
    while done["left"] and not dry_run and time.monotonic() < deadline:
        time.sleep(AGAIN_S)
        done = _act(out, provider, body)
    _tell_moves(out, done)
    _tell(out, done)
    raise typer.Exit(FAILED if done["left"] and not dry_run else OK)


@cloud.command("machine-in")
def machine_in(
    name: Machine,
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
    name: Machine,
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
    project: Annotated[str, typer.Argument(help="a project of Greenroom")],
    *,
    reason: guarded.Reason,
    provider: Provider = "",
    clouds_file: Annotated[
        Path, typer.Option("--clouds-file", help="where the entry with the credential is written, mode 0600")
    ] = Path("clouds.yaml"),
    network: Annotated[str, typer.Option(help="its network; else that of the provider's settings")] = "",
    cidr: Annotated[str, typer.Option(help="of the network, where one is made")] = "10.40.0.0/24",
    external_network: Annotated[
        str,
        typer.Option(
            "--external-network", help="a router leads there; else where all nodes get floating addresses from, or none"
        ),
    ] = "",
    access_rules: Annotated[
        bool, typer.Option("--access-rules", help="the credential may call only what Greenroom calls")
    ] = False,
    renew: Annotated[bool, typer.Option("--renew", help="make another credential although there is one")] = False,
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Give a project its own part of a cloud: project, quota, user, role, network, and a credential of least privilege.

    What is there already is left alone; what has the name and is somebody else's is refused.
    """
    from pipeline.cli import clouds_file as file
    from pipeline.cli.client import connect
    from pipeline.cli.deployment import settings
    from pipeline.cli.waiting import finished

    client, out, where = connect(), Output(json), provider or settings().default_provider
    body = {
        "project": project, "network": network, "cidr": cidr, "external_network": external_network,
        "access_rules": access_rules, "renew": renew, **guarded.wish(reason, override, dry_run=dry_run),
    }  # fmt: skip
    file.check(clouds_file)
    asked = client.post(f"/v1/providers/{where}/setups", body)
    late = f"setup {asked['id']} is not finished after {ACT_S:.0f} s; see the workers' logs, and ask again"
    with out.waiting(f"Setting up {project} at {where}"):
        done = finished(client, f"/v1/setups/{asked['id']}", within_s=ACT_S, look_s=LOOK_S, late=late)
    if done["fault"]:
        raise Complaint(done["fault"], REFUSED if done["refused"] else FAILED)
    if done["has_secret"]:
        told = client.post(f"/v1/setups/{done['id']}/credential")
        file.add(clouds_file, told["name"], told["entry"])
    _tell_setup(out, done, clouds_file, network or _network_of(where))


def _network_of(provider: str) -> str:
    """The network that all nodes of a provider are attached to, by the settings."""
    from pipeline.cli.deployment import settings

    return settings().providers[provider].cloud().network


def _tell_setup(out: Output, done: dict[str, Any], clouds_file: Path, network: str) -> None:
    from pipeline.cli import render

    if out.as_json:
        out.data({**done, "clouds_file": str(clouds_file) if done["has_secret"] else ""})
        return
    made = "would be made" if done["dry_run"] else "made"
    rows = [
        (step["part"], render.plain(step["name"]), "there" if step["there"] else made, render.plain(step["text"]))
        for step in done["steps"]
    ]
    out.table(("part", "name", "", "what it is"), rows)
    if done["has_secret"]:
        out.say(f"entry {done['name']} is written to {clouds_file}; {_next_of(done, network)}")
    elif not done["dry_run"]:
        out.say("the credential was there already, and its secret is told once, when it is made; --renew makes another")


def _next_of(done: dict[str, Any], network: str) -> str:
    """How the entry is used: all projects of a provider have their nodes on networks of one name."""
    provider, usual = done["provider"], _network_of(done["provider"])
    if network != usual:
        return (
            f"nodes of {provider} are attached to a network {usual!r} in every project, so this one needs a provider "
            f'of its own, with `cloud = "{done["name"]}"` and `network = "{network}"`'
        )
    return (
        f"let the provider use it for {done['project']}, and start again: "
        f'`[providers.{provider}.openstack.projects] {done["project"]} = "{done["name"]}"`'
    )


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
    from pipeline.cli.waiting import until

    client, out, where = connect(), Output(json), provider or settings().default_provider
    path = f"/v1/providers/{where}/leftovers"
    asked = client.post(path)["tried_at"]
    late = f"{where} was not looked at within {ACT_S:.0f} s; see the workers' logs"
    with out.waiting(f"Looking for leftovers at {where}"):
        seen = until(client, path, lambda one: one["tried_at"] > asked, within_s=ACT_S, look_s=LOOK_S, late=late)
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


def _tell_moves(out: Output, done: dict[str, Any]) -> None:
    from pipeline.cli import render

    if out.as_json or not done.get("moves"):
        return
    rows = [
        (
            render.plain(one["name"]), one["server"], one["project"], one["how"] or "", one["state"],
            render.plain(one["to"] or one["fault"]),
        )
        for one in done["moves"]
    ]  # fmt: skip
    out.table(("server", "id", "project", "how", "state", "to, or why not"), rows)


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
    moves = body.get("policy", "disable") != "disable"
    with out.waiting(f"Asking the cloud of {where}"):
        told = Progress(out) if moves else None
        done = finished(
            client, f"/v1/acts/{id}", within_s=MOVE_S if moves else ACT_S, look_s=LOOK_S, late=late, seen=told
        )
    if done["fault"]:
        raise Complaint(done["fault"], REFUSED if done["refused"] else FAILED)
    return done


@dataclass
class Progress:
    """Says of servers what became of them, each once."""

    out: Output
    known: dict[str, str] = field(default_factory=dict)

    def __call__(self, act: dict[str, Any]) -> None:
        for one in act.get("moves", ()):
            if self.known.get(one["server"], "waiting") != one["state"]:
                where = f" to {one['to']}" if one["to"] else ""
                self.out.say(f"{one['name']} ({one['server']}): {one['state']}{where}")
            self.known[one["server"]] = one["state"]


def _tell(out: Output, done: dict[str, Any]) -> None:
    if out.as_json:
        out.data(done)
    else:
        out.say(done["outcome"])
