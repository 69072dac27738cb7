"""`run`, `runs`, `show`, `logs`, `cancel`, `rerun`, `ssh`, `release`, `destroy`, `environments`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli.commands import Count, Json, Project, RunArgument, Target, Words, guarded
from pipeline.cli.output import REFUSED, USAGE, Complaint, Output

Wait = Annotated[bool, typer.Option("--wait", "-w", help="until it is finished; exit status 1 unless it passed")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="like --wait, with its logs")]


def run(
    target: Target = "",
    *,
    project: Project = "",
    wait: Wait = False,
    follow: Follow = False,
    json: Json = False,
) -> None:
    """Run the pipeline for a commit."""
    from pipeline.cli import watch
    from pipeline.cli.client import connect
    from pipeline.cli.targets import project_of, repository_url, split_ref

    client, out = connect(), Output(json)
    name, ref = split_ref(target)
    repository = repository_url(name)
    body = {"project": project_of(client, project, repository), "repository": repository, "ref": ref or "HEAD"}
    trigger = client.post("/v1/runs", body)
    with out.waiting("Reading greenroom.yml"):
        trigger = watch.planned(client, trigger["id"])
    if not trigger["run"]:
        raise Complaint(f"nothing is run: {trigger['reason']}", REFUSED)
    _watch(client, out, trigger["run"], wait=wait, follow=follow)


def _watch(client: Any, out: Output, run_id: str, *, wait: bool, follow: bool) -> None:
    """Show a run as far as was asked for; ends the command with its verdict when it was waited for."""
    from pipeline.cli import render, watch

    if not wait and not follow:
        found = client.get(f"/v1/runs/{run_id}")
        if watch.finished(found):  # it was refused, and has no logs
            if out.as_json:
                out.data(found)
            else:
                out.show(render.result(found))
            raise typer.Exit(watch.verdict_status(found))
        _answer(out, found, f"{run_id} is {render.outcome(found)}; `greenroom logs -f {run_id}` shows it")
        return
    out.say(run_id)
    quiet = out.as_json or not follow
    done = watch.wait(client, out, run_id) if quiet else watch.follow(client, out, run_id)
    if out.as_json:
        out.data(done)
    elif not (out.live and quiet):
        out.show(render.result(done))
    raise typer.Exit(watch.verdict_status(done))


def _answer(out: Output, value: object, text: str) -> None:
    if out.as_json:
        out.data(value)
    else:
        out.say(text)


def runs(*, project: Project = "", limit: Count = 20, json: Json = False) -> None:
    """List the runs."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().items("/v1/runs", limit, **({"project": project} if project else {}))
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.runs(out, found)


def show(run: RunArgument, *, json: Json = False) -> None:
    """Show one run: stages, tests, nodes."""
    from pipeline.cli import render
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id

    client, out = connect(), Output(json)
    id = run_id(client, run)
    found = client.get(f"/v1/runs/{id}")
    environment = client.find(f"/v1/environments/{found['environment']}") if found["environment"] else None
    reports = client.get(f"/v1/runs/{id}/tests")
    if json:
        out.data({"run": found, "environment": environment, "tests": reports})
    else:
        render.run(out, found, environment, reports)


def logs(
    run: RunArgument,
    stage: Annotated[str, typer.Argument(metavar="[STAGE]", help="of this stage only", show_default=False)] = "",
    *,
    node: Annotated[str, typer.Option(help="of this node only: web-0 or web[0]")] = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="as they are written, until the run is finished")
    ] = False,
    json: Json = False,
) -> None:
    """Print the logs of a run."""
    from pipeline.cli import watch
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id

    client, out = connect(), Output(json)
    id = run_id(client, run)
    wanted = node.replace("[", "-").rstrip("]")

    def chosen(name: str) -> bool:
        whole, _, on = name.partition(".")
        return (not stage or whole.rpartition("-")[0] == stage) and (not wanted or on == wanted)

    if json:
        out.data([log for log in client.get(f"/v1/runs/{id}/logs") if chosen(log["name"])])
        return
    if watch.logs(client, out, id, chosen, grow=follow) == 0:
        names = ", ".join(log["name"] for log in client.get(f"/v1/runs/{id}/logs"))
        has = f"has no such log; it has: {names}" if names else f"has no logs; `greenroom show {id}` says why"
        raise Complaint(f"{id} {has}", REFUSED)


def cancel(
    run: RunArgument,
    *,
    reason: Annotated[str, typer.Option(help="what the run will say")] = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """End a run; what it made is taken back, unless a guard refuses."""
    from pipeline.cli import render
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id

    wish, client = guarded.wish(reason, override, dry_run=dry_run), connect()
    id = run_id(client, run)
    found = client.post(f"/v1/runs/{id}/cancel", wish)
    could = "could be cancelled; nothing was changed, it " if dry_run else ""
    _answer(Output(json), found, f"{id} {could}is {render.outcome(found)}")


def rerun(
    run: RunArgument,
    *,
    first: Annotated[
        str,
        typer.Option("--from", metavar="STAGE", help="on its held nodes: a stage, or `failed` for the one that did"),
    ] = "",
    wait: Wait = False,
    follow: Follow = False,
    json: Json = False,
) -> None:
    """Run the same commit again, whole or from a stage."""
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id
    from pipeline.domain.runs import StageName

    if first and first != "failed" and first not in tuple(StageName):
        raise Complaint(f"there is no stage {first!r}; there are failed, {', '.join(StageName)}", USAGE)
    client = connect()
    id = run_id(client, run)
    again = client.post(f"/v1/runs/{id}/rerun", {"first": first or None})
    _watch(client, Output(json), again["id"], wait=wait, follow=follow)


def ssh(
    run: RunArgument,
    words: Words = None,
) -> None:
    """Log in to a node of a run, or run a command there; its exit status is passed on."""
    from pipeline.cli import login
    from pipeline.cli.client import connect
    from pipeline.cli.targets import node_name, run_id

    node, command = split_command(words or [])
    client = connect()
    access = client.post(f"/v1/runs/{run_id(client, run)}/ssh")
    name = node_name(node, access["nodes"])
    if not command and not node:
        Output().console(stderr=True).print(f"logging in to {name}")
    raise typer.Exit(login.log_in(access, name, command))


def split_command(words: list[str]) -> tuple[str, list[str]]:
    """What stands before `--` and after it."""
    place = words.index("--") if "--" in words else len(words)
    before, command = words[:place], words[place + 1 :]
    if len(before) > 1:
        raise Complaint(f"put `--` before the command: -- {' '.join(before[1:])}", USAGE)
    if place < len(words) and not command:
        raise Complaint("there is no command after `--`", USAGE)
    return (before[0] if before else ""), command


def release(
    run: RunArgument,
    *,
    reason: guarded.Reason = "",
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Give back the nodes that are held for a run."""
    from pipeline.cli.client import connect
    from pipeline.cli.targets import run_id

    wish, client = guarded.wish(reason, override, dry_run=dry_run), connect()
    id = run_id(client, run)
    found = client.post(f"/v1/runs/{id}/release", wish)
    environment = client.get(f"/v1/environments/{found['environment']}")
    _answer(Output(json), found, f"the nodes of {id} {_going(environment)}")


def destroy(
    environment: Annotated[str, typer.Argument(metavar="ENV", help="its id, as `greenroom environments` shows it")],
    *,
    reason: guarded.Reason,
    override: guarded.Override = None,
    dry_run: guarded.DryRun = False,
    json: Json = False,
) -> None:
    """Take an environment back whatever its state, unless a guard refuses."""
    from pipeline.cli.client import connect

    wish = guarded.wish(reason, override, dry_run=dry_run)
    found = connect().post(f"/v1/environments/{environment}/destroy", wish)
    _answer(Output(json), found, f"the nodes of {environment} {_going(found)}")


def _going(environment: Any) -> str:
    """What becomes of nodes that were asked back."""
    from pipeline.cli import render

    if environment["state"] in render.GONE:
        return "are gone"
    if environment["state"] == "destroying":
        return "are being taken back"
    return f"could be taken back; the environment is {environment['state']}, nothing was changed"


def environments(*, project: Project = "", limit: Count = 20, json: Json = False) -> None:
    """List the environments."""
    from pipeline.cli import render
    from pipeline.cli.client import connect

    found = connect().items("/v1/environments", limit, **({"project": project} if project else {}))
    out = Output(json)
    if json:
        out.data(found)
    else:
        render.environments(out, found)
