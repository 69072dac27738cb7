"""`inventory`: a file of machines, checked before it is put in force."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.commands import Json, files
from pipeline.cli.output import FAILED, Complaint, Output

if TYPE_CHECKING:
    from pipeline.domain.inventory import Inventory

inventory = typer.Typer(help="Inventories: files of machines, checked before they are in force.", no_args_is_help=True)
File = Annotated[Path, typer.Argument(metavar="FILE")]


@inventory.command("check")
def check(file: File, *, json: Json = False) -> None:
    """Check an inventory.yml, each mistake with its place; what may be promised of it by zone."""
    out = Output(json)
    found = _read(out, file)
    rows = _zones(found)
    if json:
        out.data({"file": str(file), "machines": len(found.machines), "zones": rows, "findings": []})
        return
    out.table(
        ("zone", "region", "machines", "vCPU", "memory", "disk"),
        [(one["zone"], one["region"], str(one["machines"]), *_amounts(one["promisable"])) for one in rows],
    )
    zones = f"{len(rows)} zone{'s' * (len(rows) != 1)}"
    out.say(f"{file} is good: {len(found.machines)} machines in {zones}, {len(found.rules)} rules")


@inventory.command("diff")
def diff(
    file: File,
    *,
    provider: Annotated[str, typer.Option("--provider", help="whose inventory it would become; else the usual")] = "",
    json: Json = False,
) -> None:
    """Show what an inventory.yml would change once it is in force; nothing is changed."""
    from pipeline.cli.client import connect
    from pipeline.cli.deployment import settings

    out = Output(json)
    _read(out, file)
    provider = provider or settings().default_provider
    body = {"source": str(file), "inventory": files.text_of(file)}
    found = connect().post(f"/v1/inventories/{provider}/diff", body)
    if json:
        out.data(found)
    else:
        tell_changes(out, found)


def _read(out: Output, file: Path) -> Inventory:
    from pipeline.bootstrap import build
    from pipeline.cli.deployment import settings
    from pipeline.cli.findings import tell_findings
    from pipeline.domain.errors import InvalidInventory, UserError

    try:
        return build(settings()).inventory_file(file)
    except InvalidInventory as error:
        tell_findings(out, file, error)
        raise typer.Exit(FAILED) from None
    except UserError as error:
        raise Complaint(str(error), FAILED) from error


def _zones(inventory: Inventory) -> list[dict[str, Any]]:
    from pipeline.domain.inventory import promisable
    from pipeline.domain.resources import DIMENSIONS

    totals = promisable(inventory)
    return [
        {
            "zone": zone.name,
            "region": zone.region,
            "machines": sum(machine.zone == zone.name for machine in inventory.machines),
            "promisable": {
                name: amount
                for name, amount in zip(DIMENSIONS, totals[zone.name], strict=True)
                if math.isfinite(amount)
            },
        }
        for zone in inventory.zones
    ]


def _amounts(promisable: Mapping[str, float]) -> tuple[str, str, str]:
    vcpu, memory, disk = (promisable[name] for name in ("vcpu", "memory_mib", "disk_gib"))
    return f"{vcpu:,.6g}", f"{memory / 1024:,.6g} GiB", f"{disk:,.6g} GiB"


def tell_changes(out: Output, found: Mapping[str, Any]) -> None:
    """What an inventory would change, or did."""
    rows = [("added", name, "") for name in found["added"]]
    rows += [("changed", one["machine"], _told(one)) for one in found["changed"]]
    rows += [("gone", one["machine"], _left(one)) for one in found["gone"]]
    rows += [("", "", other) for other in found["others"]]
    if rows:
        out.table(("what", "machine", "how"), rows)
    out.say(f"{found['unchanged']} machines stay as they are" if rows else "nothing would change")


def _told(one: Mapping[str, Any]) -> str:
    told = ", ".join(one["differences"])
    short = f"; {', '.join(one['short'])} short of what is promised there" if one["short"] else ""
    return f"{told}{short}{_under(one)}"


def _left(one: Mapping[str, Any]) -> str:
    return f"goes down, takes nothing more{_under(one)}" if one["nodes"] else "forgotten"


def _under(one: Mapping[str, Any]) -> str:
    return f"; on it: {', '.join(one['nodes'])}" if one["nodes"] else ""
