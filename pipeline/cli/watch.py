"""Watching a run: its stages as they come, its logs as they are written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from pipeline.cli import render
from pipeline.cli.client import Client
from pipeline.cli.output import FAILED, OK, Complaint, Output

Json = dict[str, Any]
LOOK_S = 0.2
#: What reading the greenroom.yml of a commit may take before we say that it goes on, in seconds.
PLAN_S = 60.0
REDRAWS_A_SECOND = 4


def planned(client: Client, trigger_id: str) -> Json:
    """A trigger once it was planned or ignored."""
    deadline = time.monotonic() + PLAN_S
    while True:
        trigger: Json = client.get(f"/v1/triggers/{trigger_id}")
        if trigger["state"] != "received":
            return trigger
        if time.monotonic() > deadline:
            raise Complaint(f"trigger {trigger_id} is not planned yet; `greenroom doctor` says why", FAILED)
        time.sleep(LOOK_S)


def finished(run: Json) -> bool:
    return bool(run["state"] == "finished")


def verdict_status(run: Json) -> int:
    """The exit status that a run's verdict is."""
    return OK if run["verdict"] == "passed" else FAILED


def wait(client: Client, out: Output, run_id: str) -> Json:
    """Show the stages until the run is finished."""
    if out.live:
        return _wait_live(client, out, run_id)
    said: dict[str, str] = {}
    for run in _changes(client, run_id):
        _say_changes(out, run, said)
    return run


def _changes(client: Client, run_id: str) -> Iterator[Json]:
    """The run as it is, and again whenever something happened to it; the last one is finished."""
    run: Json = client.get(f"/v1/runs/{run_id}")
    yield run
    if finished(run):
        return
    for message in client.stream(f"/v1/runs/{run_id}/events", "after", "run.finished"):
        if message.event.startswith(("run.", "stage.", "attempt.")):
            yield client.get(f"/v1/runs/{run_id}")


def _say_changes(out: Output, run: Json, said: dict[str, str]) -> None:
    for stage in run["stages"]:
        if stage["state"] != "pending" and said.get(stage["name"]) != stage["state"]:
            said[stage["name"]] = stage["state"]
            spent = f" {render.seconds(stage['seconds'])} s" if stage["seconds"] is not None else ""
            why = f"  {stage['reason']}" if stage["reason"] else ""
            out.say(f"{stage['name']:<10}{stage['state']}{spent}{why}")


def _wait_live(client: Client, out: Output, run_id: str) -> Json:
    from rich.console import Group, RenderableType
    from rich.live import Live
    from rich.spinner import Spinner

    changes = _changes(client, run_id)
    run = next(changes)
    spinner = Spinner("dots")

    def picture() -> RenderableType:
        spinner.update(text=render.headline(run))
        return Group(render.result(run) if finished(run) else spinner, render.stages(run, time.time()))

    with Live(get_renderable=picture, console=out.console(), refresh_per_second=REDRAWS_A_SECOND):
        for changed in changes:
            run = changed
    return run


def follow(client: Client, out: Output, run_id: str) -> Json:
    """Show the logs, one after the other as they are written, until the run is finished."""
    logs(client, out, run_id, lambda _: True, grow=True)
    *_, last = _changes(client, run_id)
    return last


def logs(client: Client, out: Output, run_id: str, chosen: Callable[[str], bool], *, grow: bool) -> int:
    """Print the chosen logs of a run; with `grow` those that come later, too. How many there were."""
    shown: list[str] = []
    while True:
        run = client.get(f"/v1/runs/{run_id}")
        names = [log["name"] for log in client.get(f"/v1/runs/{run_id}/logs") if chosen(log["name"])]
        fresh = [name for name in names if name not in shown]
        for name in fresh:
            shown.append(name)
            _title(out, name)
            _print(client, out, f"/v1/runs/{run_id}/logs/{name}", grow=grow)
        if not grow or (finished(run) and not fresh):
            return len(shown)
        if not fresh:
            time.sleep(LOOK_S)


def _title(out: Output, name: str) -> None:
    stage, _, node = name.partition(".")
    out.say(f"── {stage}{f' on {node}' if node else ''} ──")


def _print(client: Client, out: Output, path: str, *, grow: bool) -> None:
    if not grow:
        out.stream(client.text(path))
        return
    for message in client.stream(f"{path}/follow", "offset", "end"):
        if message.event == "log":
            out.stream(str(message.data))
