"""`project`, `hook`, `triggers`: where runs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.commands import Count, Json, Project
from pipeline.cli.output import FAILED, REFUSED, USAGE, Complaint, Output

project = typer.Typer(help="Projects: repositories and what they may use.", no_args_is_help=True)
hook = typer.Typer(help="Hooks of plain git repositories.", no_args_is_help=True)


@project.command("add")
def add(
    name: str,
    *,
    repository: Annotated[str, typer.Option(help="URL or path; other repositories may send deliveries, too")] = "",
    provider: Annotated[str, typer.Option(help="where its nodes are made")] = "",
    forge_token_file: Annotated[
        Path | None, typer.Option(help="file with the token that reports statuses", exists=True, dir_okay=False)
    ] = None,
    api_url: Annotated[str, typer.Option(help="the forge's API, where its usual address is not the one")] = "",
    hook_secret_file: Annotated[
        Path | None,
        typer.Option(help="file with the secret of deliveries; else one is made", exists=True, dir_okay=False),
    ] = None,
    json: Json = False,
) -> None:
    """Add a project; shows the secret that its deliveries are to be signed with."""
    from pipeline.cli.client import connect
    from pipeline.cli.targets import repository_url

    body = {
        "name": name, "repository": repository_url(repository), "provider": provider, "api_url": api_url,
        "forge_token": _content(forge_token_file), "hook_secret": _content(hook_secret_file),
    }  # fmt: skip
    added = connect().post("/v1/projects", body)
    out = Output(json)
    if json:
        out.data(added)
        return
    out.say(f"Project {name} is there.\n  deliveries to  {added['hook_url']}\n  signed with    {added['hook_secret']}")


def _content(file: Path | None) -> str:
    """What a file holds; the command ends when that is nothing."""
    content = file.read_text().strip() if file else ""
    if file and not content:
        raise Complaint(f"{file} is empty", USAGE)
    return content


@project.command("ls")
def projects(*, json: Json = False) -> None:
    """List the projects."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().get("/v1/projects")
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.projects(out, found)


@hook.command("install")
def install(
    repository: Annotated[Path, typer.Argument(metavar="REPO", help="a bare repository on this machine")],
    *,
    project: Project = "",
    json: Json = False,
) -> None:
    """Put the post-receive hook into a bare repository."""
    from pipeline.bootstrap import build
    from pipeline.cli.client import connect
    from pipeline.cli.targets import project_of
    from pipeline.domain.errors import InfraError, UserError
    from pipeline.ports.common import Secret

    client, out = connect(), Output(json)
    name = project_of(client, project, str(repository.resolve()))
    access = client.post(f"/v1/projects/{name}/hook-secret", {"local_repository": str(repository.resolve())})
    try:
        path = build().install_hook(str(repository), access["hook_url"], Secret(access["hook_secret"]))
    except (UserError, InfraError) as error:
        raise Complaint(str(error), REFUSED if isinstance(error, UserError) else FAILED) from error
    if json:
        out.data({"project": name, "hook": path, "hook_url": access["hook_url"]})
    out.say(f"A push to {repository} tells project {name}: {path}")


def triggers(*, project: Project = "", limit: Count = 20, json: Json = False) -> None:
    """List what asked for runs, and what became of it."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().items("/v1/triggers", limit, **({"project": project} if project else {}))
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.triggers(out, found)
