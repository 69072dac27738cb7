"""The commands, by what they are about."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="answer in JSON")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="its id, a unique part of it, or `last`")]
Project = Annotated[str, typer.Option("--project", "-p", help="name of the project")]
Count = Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="how many, newest first")]
