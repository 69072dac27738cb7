"""The commands, by what they are about."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="answer in JSON")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="its id, a unique part of it, or `last`")]
Machine = Annotated[str, typer.Argument(metavar="MACHINE", help="its name")]
Project = Annotated[str, typer.Option("--project", "-p", help="name of the project")]
#: A repository, or where one is known the project's, and a ref of it.
Target = Annotated[str, typer.Argument(metavar="[REPO][@REF]", help="default: the project's, at HEAD")]
Repository = Annotated[str, typer.Option(help="URL or path; default: the project's")]
OneProvider = Annotated[str, typer.Option(help="of one provider alone")]
#: Of what no guard refuses; `guarded.DryRun` is for what one may refuse.
DryRun = Annotated[bool, typer.Option("--dry-run", help="say whether it could be, change nothing")]
Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NODE] [-- COMMAND...]", help="web, web[1] or web-1; default: the first"),
]
Browser = Annotated[bool, typer.Option("--browser", "-b", help="open it in a browser of this machine")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="how many, newest first")]
