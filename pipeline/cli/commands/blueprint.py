"""`validate`, `schema`, `version`: what needs no deployment."""

from __future__ import annotations

import typer

from pipeline.cli import wiring
from pipeline.cli.commands import Json, files
from pipeline.cli.output import FAILED, Complaint, Output


def validate(
    file: files.Blueprint = files.BLUEPRINT,
    *,
    json: Json = False,
) -> None:
    """Check a greenroom.yml; each mistake with its place, and which files that it names are not beside it."""
    from pipeline.bootstrap import build
    from pipeline.cli.deployment import settings
    from pipeline.cli.findings import tell_findings
    from pipeline.domain.errors import InvalidBlueprint

    path = files.blueprint_in(file)
    out = Output(json)
    try:
        blueprint = build(settings()).reader.read(str(path), path.read_bytes())
    except OSError as error:
        raise Complaint(files.unreadable(path, error), FAILED) from error
    except InvalidBlueprint as error:
        tell_findings(out, path, error)
        raise typer.Exit(FAILED) from None
    missing = [one for one in blueprint.named_files if not (path.parent / one).exists()]
    if json:
        out.data({"file": str(path), "service": blueprint.service, "findings": [], "missing": missing})
        return
    roles = ", ".join(f"{role.name} × {role.count}" for role in blueprint.environment.roles)
    out.say(f"{path} is good: service {blueprint.service} with {roles}")
    for role in blueprint.environment.roles:
        if told := wiring.of_role(role):
            out.show(f"  {role.name}: {told}")
    for one in missing:
        out.say(f"{one} is not in {path.parent.absolute()}: a run of a commit without it fails")


def schema() -> None:
    """Print the JSON Schema of greenroom.yml."""
    from pipeline.bootstrap import build
    from pipeline.cli.deployment import settings

    Output(as_json=True).data(build(settings()).reader.schema())


def version(*, json: Json = False) -> None:
    """Print the version."""
    from importlib.metadata import version

    out = Output(json)
    if json:
        out.data({"version": version("greenroom")})
    else:
        out.say(f"greenroom {version('greenroom')}")
