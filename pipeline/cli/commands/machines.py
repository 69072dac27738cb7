"""`machines`, `machine`: on what nodes stand; machines taken out of service and put back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipeline.cli.commands import DryRun, Json, Machine, OneProvider, guarded
from pipeline.cli.output import REFUSED, USAGE, Complaint, Output

#: The states of a machine, as a sentence says them.
WORDS = {
    "in-service": "in service",
    "draining": "draining",
    "maintenance": "in maintenance",
    "quarantined": "quarantined",
    "down": "down",
}

Provider = Annotated[str, typer.Option("--provider", help="whose machine it is, where several have one of that name")]

machines = typer.Typer(help="Machines: what stands on them, and which are accepted.", invoke_without_command=True)


@machines.callback()
def listed(
    context: typer.Context,
    *,
    provider: OneProvider = "",
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


@machines.command("ls")
def ls(*, provider: Provider = "", json: Json = False) -> None:
    """List the registered machines: in which state each is, and who has it."""
    from pipeline.cli.client import connect

    found = [one for one in connect().get("/v1/machines", provider=provider) if one["registered"] is not None]
    out = Output(json)
    if json:
        out.data(found)
        return
    rows = [
        (one["name"], one["provider"], one["zone"], one["kind"], *_registered(one), one["registered"]["reason"])
        for one in found
    ]
    out.table(("machine", "provider", "zone", "kind", "state", "used by", "reason"), rows)


def _registered(one: dict[str, Any]) -> tuple[str, str]:
    """The state of a registered machine, with the inventory's where that keeps it out; and who has it."""
    state, out_of = one["registered"]["state"], one["state"]
    own = {"dirty": "draining", "quarantined": "quarantined", "down": "down"}.get(state, "in-service")
    return (state if out_of in {own, "in-service"} else f"{state}, {WORDS[out_of]}"), one["registered"]["used_by"]


@machines.command("key")
def key(*, json: Json = False) -> None:
    """Show the public key that a machine must let in before it is added."""
    from pipeline.cli.client import connect

    found, out = connect().get("/v1/machines/key"), Output(json)
    if json:
        out.data(found)
    else:
        out.say(found["key"])


@machines.command("add")
def add(
    name: Machine,
    *,
    provider: Annotated[str, typer.Option("--provider", help="with driver `static`")],
    address: Annotated[str, typer.Option(help="where its sshd answers")],
    zone: Annotated[str, typer.Option(help="the rack that it stands in")],
    image: Annotated[list[str], typer.Option("--image", help="what is installed, as blueprints name it; repeatable")],
    reset: Annotated[str, typer.Option(help="command that cleans it between two leases, as root")],
    reset_timeout: Annotated[
        float | None, typer.Option("--reset-timeout", help="of it in seconds; default: 300")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 22,
    user: Annotated[str, typer.Option(help="who lets the service in: root, or one who may use sudo")] = "root",
    host_key: Annotated[str, typer.Option("--host-key", help="`ssh-ed25519 AAAA…`; else it is asked for")] = "",
    kind: Annotated[str, typer.Option(help="bare-metal or vm")] = "bare-metal",
    aggregate: Annotated[list[str] | None, typer.Option(help="its hardware type; repeatable")] = None,
    feature: Annotated[list[str] | None, typer.Option(help="what it has; repeatable")] = None,
    capacity: Annotated[
        list[str] | None, typer.Option(metavar="WHAT=AMOUNT", help="vcpu=16, memory=64GiB, disk=2TiB; repeatable")
    ] = None,
    reason: guarded.Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="log in to it, register nothing")] = False,
    json: Json = False,
) -> None:
    """Register a machine: it is logged in to at once, and cleaned before anybody gets it."""
    from pipeline.cli.client import connect

    client, out = connect(), Output(json)
    body = {
        **guarded.wish(reason, None, dry_run=dry_run), "provider": provider, "name": name, "address": address,
        "port": port, "user": user, "host_key": host_key or _confirmed(client, address, port), "zone": zone,
        "kind": kind, "aggregates": aggregate or [], "features": feature or [], "images": image,
        "capacity": _capacity(capacity or []), "reset": reset,
    }  # fmt: skip
    found = client.post("/v1/machines", body if reset_timeout is None else {**body, "reset_s": reset_timeout})
    if json:
        out.data(found)
    elif dry_run:
        out.say(f"machine {name} could be registered; nothing was changed")
    else:
        out.say(f"machine {name} is registered at {provider}, and cleaned now; watch: greenroom machines ls")


def _confirmed(client: Any, address: str, port: int) -> str:
    """The host key that is shown, if a person says that it is the machine's."""
    shown: str = client.get("/v1/machines/host-key", address=address, port=port)["key"]
    typer.echo(f"{address}:{port} shows the host key\n  {shown}", err=True)
    if not typer.confirm("Is it the machine's own?", err=True):
        raise Complaint("nothing was registered; name its key with --host-key", USAGE)
    return shown


def _capacity(told: list[str]) -> dict[str, float]:
    from pipeline.domain.resources import parse_size

    sizes = {"memory": ("memory_mib", 1.0), "disk": ("disk_gib", 1024.0)}
    found = {}
    for what, _, amount in (one.partition("=") for one in told):
        try:
            name, unit = sizes.get(what, (what, 0.0))
            found[name] = parse_size(amount) / unit if unit else float(amount)
        except ValueError as error:
            raise Complaint(f"--capacity {what}={amount}: {error}", USAGE) from error
    return found


@machines.command("rm")
def rm(
    name: Machine,
    *,
    provider: Provider = "",
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Forget a registered machine; refused while it is leased."""
    words = f"machine {name} could be forgotten; nothing was changed" if dry_run else f"machine {name} is forgotten"
    _act("remove", name, provider, guarded.wish(reason, override, dry_run=dry_run), words, json=json)


@machines.command("release")
def release(
    name: Machine,
    *,
    provider: Provider = "",
    reason: guarded.Reason = "",
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Clean a registered machine that is quarantined or was taken out, and put it back when it is clean."""
    words = f"machine {name} could be cleaned; nothing was changed" if dry_run else f"machine {name} is being cleaned"
    _act("release", name, provider, guarded.wish(reason, None, dry_run=dry_run), words, json=json)


def _act(act: str, name: str, provider: str, body: dict[str, Any], words: str, *, json: bool) -> None:
    found, out = _asked(act, name, provider, body), Output(json)
    if json:
        out.data(found)
    else:
        out.say(words)


def _asked(act: str, name: str, provider: str, body: dict[str, Any]) -> Any:
    """Ask for an act on a machine; what the API answers."""
    from pipeline.cli.client import connect

    client = connect()
    where = provider or provider_of(client.get("/v1/machines", name=name), name)
    return client.post(f"/v1/machines/{where}/{name}/{act}", body)


def provider_of(found: list[dict[str, Any]], name: str) -> str:
    """The only provider that has a machine of that name."""
    if not found:
        raise Complaint(f"there is no machine {name}; `greenroom machines` shows all", REFUSED)
    if len(found) > 1:
        several = ", ".join(one["provider"] for one in found)
        raise Complaint(f"the providers {several} have a machine {name} each; name one with --provider", USAGE)
    provider: str = found[0]["provider"]
    return provider


machine = typer.Typer(help="Machines: taken out of service and put back.", no_args_is_help=True)


def _leading_to(state: str, what: str) -> Callable[..., None]:
    """A command that brings a machine into a state, past the gate; `what` a person reads of it."""

    def change(
        name: Machine,
        *,
        reason: guarded.Reason,
        provider: Provider = "",
        override: guarded.Override = None,
        dry_run: guarded.DryRun = False,
        json: Json = False,
    ) -> None:
        body = {"state": state, **guarded.wish(reason, override, dry_run=dry_run)}
        now, out = _asked("state", name, provider, body), Output(json)
        if json:
            out.data(now)
        elif dry_run:
            out.say(f"machine {name} could be {WORDS[state]}; it is {WORDS[now['state']]}, nothing was changed")
        else:
            out.say(f"machine {name} is {WORDS[now['state']]}")

    change.__doc__ = what
    return change


drain = _leading_to("draining", "Let a machine take no more nodes; those on it stay until they are over.")
maintenance = _leading_to("maintenance", "Take a machine out of service; refused while nodes stand on it.")
quarantine = _leading_to("quarantined", "Let a machine that is suspect take no more nodes.")
machine.command("drain")(drain)
machine.command("maintenance")(maintenance)
machine.command("quarantine")(quarantine)
machine.command("return")(_leading_to("in-service", "Put a machine back into service."))
#: The same acts, where registered machines are looked for; one that is leased is refused, with who has it.
machines.command("drain")(drain)
machines.command("quarantine")(quarantine)
