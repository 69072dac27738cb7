"""`report`: what the last runs came to."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.commands import Json
from pipeline.cli.output import USAGE, Complaint, Output


def report(
    *,
    service: Annotated[str, typer.Option(help="of this service only")] = "",
    since: Annotated[str, typer.Option(help="how far back")] = "24h",
    text: Annotated[bool, typer.Option("--text", help="as the body of a mail; so it is without any of these")] = False,
    html: Annotated[bool, typer.Option("--html", help="as a page")] = False,
    json: Json = False,
) -> None:
    """Report what the last runs of each service came to: new failures, flaky tests, what was slow."""
    from pipeline.cli.client import connect

    if sum((text, html, json)) > 1:
        raise Complaint("say one of --text, --html and --json", USAGE)
    client, out = connect(), Output(json)
    wanted = {"since": since, **({"service": service} if service else {})}
    if json:
        out.data(client.get("/v1/reports/morning", **wanted))
    else:
        out.stream(client.text("/v1/reports/morning", "text/html" if html else "text/plain", **wanted))
