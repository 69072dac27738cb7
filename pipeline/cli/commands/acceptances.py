"""`machines accept`, `machines acceptances`: machines that are tried out before they go into service."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from pipeline.cli.commands import Count, Json, Machine, guarded
from pipeline.cli.commands.machines import Provider, provider_of
from pipeline.cli.output import FAILED, Output

LOOK_S = 0.3


def accept(
    name: Machine,
    *,
    provider: Provider = "",
    size: Annotated[str, typer.Option(help="of the node that is tried out; default: small")] = "",
    image: Annotated[str, typer.Option(help="of the node; default: debian-12")] = "",
    qos: Annotated[str, typer.Option(help="the profile that the node is promised; default: steady")] = "",
    at_least: Annotated[
        float | None, typer.Option("--at-least", help="the part of each promise that is enough; default: 0.8")
    ] = None,
    peer: Annotated[str, typer.Option(help="machine of the node with which its network is measured")] = "",
    tests: Annotated[
        str, typer.Option(metavar="REPO[@REF]", help="the tests of its greenroom.yml judge the node, too")
    ] = "",
    project: Annotated[str, typer.Option("--project", "-p", help="whose token and account are used; none")] = "",
    reason: guarded.Reason = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="check what is asked for, change nothing")] = False,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="for the verdict; exit status 1 unless it passed")] = False,
    json: Json = False,
) -> None:
    """Try out a machine that is out of service: deliver a node on it, measure it, test it, destroy it.

    Passed: the machine goes into service. Failed: it stays out, and says why. An error changes nothing.
    """
    from pipeline.cli.client import connect
    from pipeline.cli.targets import repository_url, split_ref

    repository, ref = split_ref(tests)
    terms = {
        "size": size, "image": image, "qos": qos, "at_least": at_least, "peer": peer, "project": project,
        "repository": repository_url(repository), "ref": ref,
    }  # fmt: skip
    said = {key: value for key, value in terms.items() if value not in {"", None}}
    body = {**guarded.wish(reason, None, dry_run=dry_run), **said}
    client, out = connect(), Output(json)
    where = provider or provider_of(client.get("/v1/machines", name=name), name)
    found = client.post(f"/v1/machines/{where}/{name}/acceptances", body)
    if wait and not dry_run:
        with out.waiting(f"Accepting {name}"):
            found = _finished(client, found["id"])
    _tell(out, found, dry_run=dry_run)
    if wait and not dry_run and found["verdict"] != "passed":
        raise typer.Exit(FAILED)


def acceptances(
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="of one machine alone")] = "",
    *,
    provider: Provider = "",
    limit: Count = 20,
    json: Json = False,
) -> None:
    """List the acceptances of machines, newest first; of one machine with what was measured in the newest."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    client, out = connect(), Output(json)
    where = provider or (provider_of(client.get("/v1/machines", name=name), name) if name else "")
    found = client.items("/v1/acceptances", limit, provider=where, machine=name)
    if json:
        out.data(found)
        return
    rows = [
        (
            one["id"],
            one["machine"],
            one["provider"],
            render.coloured(one["verdict"] or "goes on"),
            render.moment(one["asked_at"]),
            render.plain(one["reason"]),
        )
        for one in found
    ]
    out.table(("acceptance", "machine", "provider", "verdict", "asked", "reason"), rows)
    if name and found:
        _measured(out, found[0])


def _finished(client: Any, id: str) -> dict[str, Any]:
    """The acceptance with its verdict; its run has a timeout, so it comes."""
    while True:
        found: dict[str, Any] = client.get(f"/v1/acceptances/{id}")
        if found["verdict"] is not None:
            return found
        time.sleep(LOOK_S)


def _tell(out: Output, found: dict[str, Any], *, dry_run: bool) -> None:
    if out.as_json:
        out.data(found)
        return
    machine, id = found["machine"], found["id"]
    for note in found["notes"]:
        out.say(note)
    if dry_run:
        out.say(f"machine {machine} could be accepted; nothing was changed")
    elif found["verdict"] is None:
        out.say(f"{id}: machine {machine} is being accepted by {found['run']}\n  watch: greenroom show {found['run']}")
    else:
        out.say(f"{id}: machine {machine} {_ended(found)}")
        _measured(out, found)


def _ended(found: dict[str, Any]) -> str:
    tests = f"{found['tests']['passed']} tests passed, {found['tests']['failed'] + found['tests']['errors']} failed"
    words = {"passed": "passed: it is in service", "failed": "failed, and stays out of service"}
    verdict = words.get(found["verdict"], "was not judged, and is as it was")
    return f"{verdict} ({tests}){f': {reason}' if (reason := found['reason']) else ''}"


def _measured(out: Output, found: dict[str, Any]) -> None:
    rows = [
        (
            one["direction"],
            f"{one['promise']:,}",
            f"{one['measured']:,.0f}",
            f"{one['ratio']:.0%}",
            "kept" if one["kept"] else "broken",
        )
        for one in found["measured"]
    ]
    if rows:
        out.table(("what", "promised", "measured", "of it", "promise"), rows)
