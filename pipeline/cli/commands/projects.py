"""`project`, `hook`, `triggers`: where runs come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.commands import Count, DryRun, Json, Project, files
from pipeline.cli.output import FAILED, REFUSED, USAGE, Complaint, Output

project = typer.Typer(help="Projects: repositories and what they may use.", no_args_is_help=True)
hook = typer.Typer(help="Hooks of plain git repositories.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="PROJECT", help="its name: a-z, 0-9 and inner hyphens")]


@project.command("add")
def add(
    name: Name,
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


@project.command("show")
def show(name: Name, *, json: Json = False) -> None:
    """Show one project: its quota with what is in use of it now, its share, its rules."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().get(f"/v1/projects/{name}")
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.project(out, found)


@project.command("set")
def change(
    name: Name,
    *,
    quota: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIMIT=AMOUNT",
            help="nodes, vcpu, memory, disk, environments or floating_addresses, such as `memory=64GiB`; "
            "`LIMIT=none` takes a limit away, `none` all of them",
        ),
    ] = None,
    max_runs: Annotated[int | None, typer.Option(help="runs at a time")] = None,
    weight: Annotated[float | None, typer.Option(help="its share of what several projects want at once")] = None,
    provider: Annotated[str | None, typer.Option(help="where its nodes are made; empty for the usual one")] = None,
    ttl: Annotated[str | None, typer.Option(help="how long its environments live where nobody says it")] = None,
    most_ttl: Annotated[str | None, typer.Option(help="and how long at most")] = None,
    keys_from: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="forge whose users' public keys it may take; `none` alone: no forge"),
    ] = None,
    json: Json = False,
) -> None:
    """Change what a project may use."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    amounts = {"max_runs": max_runs, "weight": weight, "provider": provider, "ttl": ttl, "most_ttl": most_ttl}
    given = {**amounts, "key_forges": keys_from or None, **_quota(quota or [])}
    wish = {key: value for key, value in given.items() if value is not None or key == "quota"}
    if not wish:
        raise Complaint(
            "nothing is to change; name a --quota, --max-runs, --weight, --provider, --ttl, --most-ttl or --keys-from",
            USAGE,
        )
    now = connect().patch(f"/v1/projects/{name}", wish)
    out = Output(json)
    if json:
        out.data(now)
    else:
        render.project(out, now)


def _quota(given: list[str]) -> dict[str, dict[str, str] | None]:
    """What `--quota` says, as the API takes it; nothing when it is not given."""
    if not given:
        return {}
    if given == ["none"]:
        return {"quota": None}
    pairs = [one.partition("=") for one in given]
    for one, (limit, _, amount) in zip(given, pairs, strict=True):
        if not limit or not amount:
            raise Complaint(f"--quota {one}: expected LIMIT=AMOUNT such as nodes=20, or `none` alone", USAGE)
    return {"quota": {limit: amount for limit, _, amount in pairs}}


@project.command("rules")
def rules(
    name: Name,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="`version: 1` and `rules:` as in an inventory.yml; else they are shown"),
    ] = None,
    *,
    json: Json = False,
) -> None:
    """Lay rules on all environments of a project, in place of those that it has; without a FILE, show them."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    path = f"/v1/projects/{name}/rules"
    found = connect().get(path) if file is None else connect().put(path, {"rules": files.text_of(file)})
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.rules(out, found["rules"])
    for warning in found["warnings"]:
        Output(as_json=True).say(f"warning: {warning} in any inventory; see `greenroom machines`")


@project.command("rm")
def remove(
    name: Name,
    *,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Remove a project; refused as long as it has runs or environments."""
    from pipeline.cli.client import connect

    gone = connect().delete(f"/v1/projects/{name}", dry_run=int(dry_run))
    out = Output(json)
    if json:
        out.data(gone)
    elif dry_run:
        out.say(f"project {name} could be removed; nothing was changed")
    else:
        out.say(f"project {name} is removed; its finished runs stay until they are old")


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
