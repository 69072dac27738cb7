"""`up`, `down`, `doctor`, `demo`: the deployment of this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.commands import Json
from pipeline.cli.output import FAILED, OK, REFUSED, Complaint, Output


def up(
    *,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="go on in the background")] = False,
    hooks_bind: Annotated[str, typer.Option(metavar="HOST:PORT", help="where deliveries arrive")] = "",
    workers: Annotated[int, typer.Option(min=0, max=64, help="processes for the stages' work", show_default=False)] = 0,
    json: Json = False,
) -> None:
    """Start everything on this machine: Redis, node helper, API, hooks, workers, tick."""
    import os

    from pipeline.cli import deployment, programs

    changes = {"GREENROOM_HOOKS_BIND": hooks_bind, "GREENROOM_WORKERS": str(workers or "")}
    os.environ.update({name: value for name, value in changes.items() if value})
    settings, out = deployment.settings(), Output(json)
    if (already := deployment.running(settings)) is not None:
        raise Complaint(f"it runs already, as process {already.pid}; `greenroom down` stops it", REFUSED)
    deployment.check_home(settings)
    deployment.check_ports(settings)
    deployment.become_root(settings)
    with out.waiting("Starting"):
        pid = deployment.start(settings, os.environ, detach=detach)
    now = deployment.running(settings)
    if now is None:
        raise Complaint(f"it ended at once; see {settings.process_logs_dir}/supervisor.log", FAILED)
    if not detach:
        deployment.pass_on_signals(pid)
    deployment.tell(out, settings, now, detached=detach)
    raise typer.Exit(OK if detach else programs.wait(pid))


def down(
    *,
    release: Annotated[bool, typer.Option("--release", help="give back held nodes first")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="cancel active runs, give back held nodes, stop anyway")
    ] = False,
    json: Json = False,
) -> None:
    """Stop what `greenroom up` started on this machine."""
    from pipeline.cli import deployment, ending

    settings, out = deployment.settings(), Output(json)
    now = deployment.running(settings)
    if now is None:
        raise Complaint(f"nothing runs in {settings.home}", REFUSED)
    with out.waiting("Stopping"):
        left = ending.settle(out, settings, release=release or force, force=force)
        if not deployment.stop(now.pid):
            raise Complaint(f"process {now.pid} does not end; see {settings.process_logs_dir}/supervisor.log", FAILED)
    if json:
        out.data({"stopped": now.pid, "held": left})
    out.say("Greenroom is down.")


def demo(
    *,
    provider: Annotated[str, typer.Option(help="whose nodes: this machine's, or a provider of the settings")] = "local",
) -> None:
    """Show everything: a push that passes, one that fails and is held, and its fix."""
    from pipeline.cli.demo import story

    story.play(Output(), provider)


def doctor(*, json: Json = False) -> None:
    """Say what is missing, what does not work, and what leaked."""
    from pipeline.cli import deployment, health

    raise typer.Exit(health.examine(Output(json), deployment.settings()))
