"""`qos`: what nodes were promised, and what they get."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.commands import Json
from pipeline.cli.output import FAILED, OK, Complaint, Output

qos = typer.Typer(help="Quality of service: what nodes were promised, and what they get.", no_args_is_help=True)
#: What measuring all nodes may take, in seconds.
MEASURE_S = 900.0
LOOK_S = 0.3


@qos.command("check")
def check(
    target: Annotated[str, typer.Argument(metavar="ENV_OR_RUN", help="an environment, or the run that it serves")],
    *,
    json: Json = False,
) -> None:
    """Measure from inside the nodes what they were promised; exit status 1 when a promise is broken."""
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id

    client, out = connect(), Output(json)
    environment = (
        target if target.startswith("env-") else client.get(f"/v1/runs/{run_id(client, target)}")["environment"]
    )
    if not environment:
        raise Complaint(f"{target} has no environment; nothing can be measured", FAILED)
    asked = client.post(f"/v1/environments/{environment}/qos-checks")
    with out.waiting("Measuring"):
        done = _finished(client, asked["id"])
    _tell(out, done)
    raise typer.Exit(OK if done["kept"] else FAILED)


@qos.command("profiles")
def profiles(*, json: Json = False) -> None:
    """List the profiles that the `qos` of a greenroom.yml may name; needs no deployment."""
    from pipeline.bootstrap import build
    from pipeline.cli.deployment import settings

    app, out = build(settings()), Output(json)
    found = [
        {"profile": name, "from": "settings" if name in app.settings.qos_profiles else "built in", **vars(profile)}
        for name, profile in app.qos_profiles.items()
    ]
    if json:
        out.data(found)
        return
    rows = [[key.replace("qos_class", "class"), *(_shown(one[key]) for one in found)] for key in list(found[0])[1:]]
    out.table(["profile", *(one["profile"] for one in found)], rows)
    out.say("*_bytes are bytes/s, network_* are bits/s, - is not limited")


def _shown(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _finished(client: Any, id: str) -> dict[str, Any]:
    from pipeline.cli.waiting import finished

    late = f"check {id} is not finished after {MEASURE_S:.0f} s; see the workers' logs"
    return finished(client, f"/v1/qos-checks/{id}", within_s=MEASURE_S, look_s=LOOK_S, late=late)


def _tell(out: Output, done: dict[str, Any]) -> None:
    if out.as_json:
        out.data(done)
        return
    if done["fault"]:
        out.say(f"could not be measured: {done['fault']}")
    rows = [
        (
            one["node"],
            one["direction"],
            f"{one['promise']:,}",
            f"{one['measured']:,.0f}",
            f"{one['ratio']:.0%}",
            "kept" if one["kept"] else "broken",
        )
        for one in done["found"]
    ]
    if rows:
        out.table(("node", "what", "promised", "measured", "of it", "promise"), rows)
    elif not done["fault"]:
        out.say("nothing was promised: give roles `qos` bounds in greenroom.yml")
