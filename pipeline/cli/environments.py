"""Environments on request: found by a word, waited for, shown with their contracts."""

from __future__ import annotations

import getpass
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.cli import render, wiring
from pipeline.cli.client import Client, segment
from pipeline.cli.output import FAILED, REFUSED, Complaint, Output
from pipeline.cli.targets import only
from pipeline.domain.durations import format_duration

Json = dict[str, Any]
LOOK_S = 0.1
#: Environments that a part of an id or a name is looked for in, newest first.
LOOKED_AT = 1000


def person() -> str:
    """Whoever calls, for the contract."""
    return getpass.getuser()


def key_lines(file: Path) -> list[str]:
    """The public keys of a file, one a line, without its remarks."""
    lines = (line.strip() for line in file.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def write_key(file: Path, key: str | None) -> None:
    """Write a private key to a file that nobody else may read, and that was not there before."""
    if key is None:
        raise Complaint("no key was made", REFUSED)
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Complaint(f"the key cannot be written to {file}: {error.strerror}\n{key}", REFUSED) from error
    with os.fdopen(descriptor, "w") as writer:
        writer.write(key)


def the_one(client: Client, text: str) -> str:
    """The id of the environment that a word means; the command ends when no or more than one fit."""
    return only(_matching(client, text), text, "environment", "greenroom env ls")


def _matching(client: Client, text: str) -> list[str]:
    """Ids of the environments that a word may mean; a name means the newest that has it."""
    if text and text != "last" and client.find(f"/v1/environments/{segment(text)}") is not None:
        return [text]
    known = client.items("/v1/environments", 1 if text == "last" else LOOKED_AT)
    if text == "last":
        return [str(one["id"]) for one in known]
    named = [one for one in known if one["contract"] is not None and one["contract"]["name"] == text]
    if text and named:
        return [str(named[0]["id"])]
    ids = [str(one["id"]) for one in known]
    return [id for id in ids if text and (id.startswith((text, f"env-{text}")) or id.endswith(text))]


def wait(client: Client, out: Output, id: str) -> Json:
    """Show how far it is until it is ready or on its way out."""
    said = ""
    while True:
        found: Json = client.get(f"/v1/environments/{id}")
        now = progress(found)
        if now != said:
            said = now
            out.say(f"{id} {now}")
        if found["contract"]["ready_at"] or found["state"] in {*render.GONE, "destroying"}:
            return found
        time.sleep(LOOK_S)


def wait_scaled(client: Client, out: Output, id: str) -> Json:
    """Show how far the change of its nodes is until it is over, or the environment on its way out."""
    said = ""
    while True:
        found: Json = client.get(f"/v1/environments/{id}")
        now = scaling(found)
        if now and now != said:
            said = now
            out.say(f"{id} {now}")
        if not now:
            return found
        time.sleep(LOOK_S)


def scaling(found: Json) -> str:
    """What goes on with its nodes, in some words; empty when nothing does."""
    going = found["scaling"]
    if going is None:
        return ""
    what = f"{'gets' if going['coming'] else 'gives'} {', '.join(going['coming'] or going['going'])}"
    move = going["moves"]
    if move is not None:
        turned = f" back from {move['to']}, since {move['back']}" if move["back"] else f" to {move['to']}"
        what = f"moves {going['role']}{turned}: {what}"
    where = f", prepared by {going['run']}" if going["run"] else ""
    why = going["fault"] or going["reason"]
    return f"{what}{where}{f': {why}' if why else ''}"


def scaled(found: Json, role: str, *, dry_run: bool) -> str:
    """What came of a wish for more or fewer nodes."""
    count = sum(1 for node in found["nodes"] if node["role"] == role)
    if dry_run:
        return f"{found['id']} {scaling(found) or f'has {count} nodes of role {role}'}; nothing was changed"
    if found["degraded"]:
        return f"{found['id']} has {count} nodes of role {role}: {found['degraded']}"
    return f"{found['id']} {scaling(found) or f'has {count} nodes of role {role}'}"


def moved(found: Json, role: str, *, dry_run: bool) -> str:
    """Where the nodes of a role stand, and what goes on with them."""
    nodes = [node for node in found["nodes"] if node["role"] == role]
    there = ", ".join(f"{node['name']} on {node['machine'] or 'no machine yet'}" for node in nodes)
    told = f"{found['id']} {scaling(found) or found['degraded'] or f'has role {role} there'} ({there})"
    return f"{told}; nothing was changed" if dry_run else told


def progress(found: Json) -> str:
    """How far an environment is, in some words."""
    state = str(found["state"])
    if state == "requested" and found["position"] is not None:
        estimate = found["estimate_s"]
        about = f", about {format_duration(estimate)}" if estimate is not None else ""
        return f"waits for room: number {found['position']} in the line{about}"
    if state == "leased" and not found["contract"]["ready_at"]:
        return f"is configured and deployed by {found['owner']}"
    why = found["fault"] or found["reason"]
    return f"is {state}{f': {why}' if why and state != 'leased' else ''}"


def gone(client: Client, out: Output, id: str) -> Json:
    """An environment of which nothing exists any more."""
    with out.waiting(f"Taking {id} back"):
        while True:
            found: Json = client.get(f"/v1/environments/{id}")
            if found["state"] in render.GONE:
                return found
            time.sleep(LOOK_S)


def output(client: Client, out: Output, command: Json) -> int:
    """Show the output of a command as it comes; its exit status, FAILED when it could not be run."""
    for message in client.stream(command["links"]["output"], "offset", "end"):
        if message.event == "log":
            out.stream(str(message.data))
    while (done := client.get(command["links"]["self"]))["finished_at"] is None:
        time.sleep(LOOK_S)
    if done["fault"]:
        raise Complaint(f"{done['id']}: {done['fault']}", FAILED)
    return int(done["exit_status"])


def until(found: Json) -> str:
    """When it ends, as the rest of a sentence; nothing when nobody knows, or it does so now."""
    contract = found["contract"]
    if contract is None or found["state"] in {"destroying", *render.GONE}:
        return ""
    if contract["protected"]:
        return f", protected: {contract['protected']}"
    return f" until {render.moment(contract['dies_at'])}" if contract["dies_at"] else ""


def made(out: Output, found: Json, key_out: Path | None) -> None:
    """What was asked for; the key that was made for it is shown this once."""
    out.say(f"{found['id']} {progress(found)}{until(found)}")
    if found.get("private_key"):
        out.say("The key that logs in to its nodes, shown this once:")
        out.stream(found["private_key"])
    elif key_out is not None:
        out.say(f"Its key is in {key_out}: ssh -i {key_out} root@ADDRESS")
    out.say(f"  log in:    greenroom env ssh {found['id']}\n  give back: greenroom env release {found['id']}")


def several(out: Output, found: Sequence[Json]) -> None:
    rows = [
        (
            one["id"], render.coloured(one["state"]), render.plain(_contract(one, "name")),
            render.plain(_contract(one, "owner") or one["owner"]), render.plain(one["project"]),
            str(len(one["nodes"])), render.plain(until(one).removeprefix(",").strip()),
        )
        for one in found
    ]  # fmt: skip
    out.table(("environment", "state", "name", "owner", "project", "nodes", "ends"), rows)


def _contract(one: Json, field: str) -> str:
    return str(one["contract"][field]) if one["contract"] is not None else ""


def one(out: Output, found: Json) -> None:
    """One environment with its contract and nodes."""
    out.show(f"{found['id']}  {render.coloured(found['state'])}  {render.plain(found['project'])}")
    for name, value in _facts(found).items():
        if value:
            out.show(f"  {name:<12}{render.plain(value)}")
    rows = [
        (node["name"], node["state"], node["address"] or "", node["zone"], node["machine"], render.plain(node["fault"]))
        for node in found["nodes"]
    ]
    out.table(("node", "state", "address", "zone", "machine", "fault"), rows)
    for line in wiring.of_nodes(found["nodes"]):
        out.show(f"  {render.plain(line)}")


def _facts(found: Json) -> dict[str, str]:
    contract = found["contract"]
    if contract is None:
        return {"run": found["owner"], "reason": found["reason"], "fault": found["fault"]}
    return {
        "name": contract["name"],
        "owner": contract["owner"],
        "why": contract["why"],
        "for": contract["url"],
        "answers at": contract["host"],
        "now": progress(found),
        "nodes": scaling(found),
        "degraded": found["degraded"],
        "dies at": render.moment(contract["dies_at"]) if contract["dies_at"] else "",
        "at most": render.moment(contract["last_end"]) if contract["last_end"] else format_duration(contract["most_s"]),
        "warning": "its end is near; `greenroom env extend` puts it off" if contract["warned"] else "",
        "protected": contract["protected"],
        "may end": "; ".join(contract["may_end_earlier"]),
        "costs": _costs(contract["costs"]),
    }


def _costs(costs: Json) -> str:
    floating = f", {costs['floating_addresses']} floating addresses" if costs["floating_addresses"] else ""
    return (
        f"{costs['nodes']} nodes, {costs['vcpu']:g} vcpu, {costs['memory_mib'] / 1024:g} GiB memory, "
        f"{costs['disk_gib']:g} GiB disk{floating} of its project's quota"
    )
