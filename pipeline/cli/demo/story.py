"""The demo, scene by scene. Every scene ends as expected or ends the demo."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from pipeline.cli import deployment, ending, login, render, watch
from pipeline.cli.client import Client, connect
from pipeline.cli.commands import machines, placement, projects, qos, runs, this_machine
from pipeline.cli.demo.developer import BRANCH, Developer
from pipeline.cli.demo.place import Place, temporary_place
from pipeline.cli.demo.proof import Proof
from pipeline.cli.output import FAILED, OK, REFUSED, Complaint, Output

Json = dict[str, Any]
PROJECT = "shop"
#: What a push may take to arrive as a trigger, in seconds; the hook answers when it did.
ARRIVE_S = 10.0
LOOK_S = 0.1
#: What is asked on the held node: who it is, and what the shop sells for 19.05.
QUESTION = "hostname && curl --fail --silent --show-error --max-time 5 http://127.0.0.1:8080/price/1905"
#: Lines of processes' logs that tell nothing when something went wrong: INFO, and Redis' banner.
QUIET = re.compile(r"INFO|^\d+:[MC] |^$")
MOST_LINES = 40
STAGES = ("deliver", "configure", "deploy", "test", "destroy")


@dataclass
class Story:
    """What happened so far."""

    out: Output
    place: Place
    developer: Developer
    proof: Proof = field(default_factory=Proof)
    runs: list[tuple[str, Json, float]] = field(default_factory=list)
    configured_by: str = ""

    def tell(self) -> None:
        """All scenes."""
        self.proof.note("before")
        with self._deployment():
            self._set_the_stage()
            self._push("A first push: everything should pass", "first push", "passed")
            self._note_configurator(self.runs[-1][1]["id"])
            if self.place.here:
                self._explain()
            self.developer.break_it()
            failed = self._push("A push that breaks the price: its nodes are held", "broken push", "failed")
            self._debug(failed)
            self._guard(failed)
            if self.place.here:
                self._measure(failed)
            self.developer.fix_it()
            self._push("The fix", "fixed push", "passed")
            self._release(failed)
        self.proof.note_end("after")

    @contextmanager
    def _deployment(self) -> Iterator[None]:
        self._title("A deployment of its own")
        self._command("greenroom up --detach")
        _expect_ok(lambda: this_machine.up(detach=True))
        try:
            yield
        except BaseException:
            self._clear_away()
            raise
        self._command("greenroom down")
        this_machine.down()

    def _clear_away(self) -> None:
        """After something unexpected: take back what there is, whatever it says."""
        settings = deployment.settings()
        now = deployment.running(settings)
        for log in sorted(settings.process_logs_dir.glob("*.log")):
            if said := _warnings(log):
                self.out.say(f"── warnings in {log.name} ──\n{said}")
        if now is not None:
            try:
                ending.settle(self.out, settings, release=True, force=True)
            finally:
                deployment.stop(now.pid)

    def _set_the_stage(self) -> None:
        self._title("A repository, and a project for it")
        self.developer.begin()
        bare = self.place.bare
        self._command(f"greenroom project add {PROJECT} --repository {bare}")
        projects.add(PROJECT, repository=str(bare))
        self._command(f"greenroom hook install {bare}")
        projects.install(bare, project=PROJECT)

    def _push(self, title: str, name: str, expected: str) -> Json:
        self._title(title)
        self._command(f"git push origin {BRANCH}")
        began = time.monotonic()
        client = connect()
        run = watch.wait(client, self.out, _run_of(client, self.developer.push()))
        self.runs.append((name, run, time.monotonic() - began))
        if not self.out.live:
            self.out.show(render.result(run))
        if run["verdict"] != expected:
            watch.logs(client, self.out, run["id"], lambda _: True, grow=False)
            raise Complaint(f"{run['id']} was expected to be {expected}", FAILED)
        return run

    def _note_configurator(self, run_id: str) -> None:
        """Say what configured the nodes, from the run's own logs."""
        client = connect()
        logs = [log["name"] for log in client.get(f"/v1/runs/{run_id}/logs") if log["name"].startswith("configure-")]
        lines = [line for name in logs for line in client.text(f"/v1/runs/{run_id}/logs/{name}").splitlines()]
        refused = [line.removeprefix("greenroom: ") for line in lines if line.startswith("greenroom: chef is not used")]
        self.configured_by = "the script configurator: no Chef client could be had" if refused else "Chef"
        self.out.say(f"The nodes were configured by {self.configured_by}.")
        if refused:
            self.out.say(f"  {refused[0]}")

    def _explain(self) -> None:
        self._title("This machine poses as three racks: where nodes stand, and why they cannot stand elsewhere")
        self._command("greenroom place")
        self._expect(OK, lambda: placement.place(self.place.work))
        wish = self.place.root / "impossible.yml"
        text = (self.place.work / "greenroom.yml").read_text()
        wish.write_text(text.replace("spread: zone", "require: {zone: rack-z}"))
        self._command(f"greenroom place --explain {wish}")
        self._expect(REFUSED, lambda: placement.place(wish, explain=True))

    def _guard(self, failed: Json) -> None:
        self._title("A guard keeps what is in use")
        environment = connect().get(f"/v1/environments/{failed['environment']}")
        machine = environment["nodes"][0]["machine"]
        self._command(f"greenroom machine maintenance {machine} --reason 'a new disk'")
        try:
            machines.maintenance(machine, reason="a new disk")
        except Complaint as refusal:
            self.out.say(f"greenroom: {refusal}")
        else:
            raise Complaint(f"machine {machine} was taken away from nodes that stand on it", FAILED)

    def _measure(self, failed: Json) -> None:
        self._title("What its nodes were promised, measured from inside them")
        self._command(f"greenroom qos check {failed['id']}")
        self._expect(OK, lambda: qos.check(failed["id"]))

    def _expect(self, status: int, act: Callable[[], None]) -> None:
        """Call a command that ends with an exit status; the demo ends when it is another one."""
        try:
            act()
        except typer.Exit as ended:
            if ended.exit_code != status:
                raise Complaint(f"exit status {ended.exit_code}, expected {status}", FAILED) from ended

    def _debug(self, failed: Json) -> None:
        self._title("Its nodes are still there: look at one")
        self._command(f"greenroom show {failed['id']}")
        runs.show(failed["id"])
        client = connect()
        environment = client.get(f"/v1/environments/{failed['environment']}")
        if environment["state"] != "held":
            raise Complaint(f"environment {environment['id']} is {environment['state']}, not held", FAILED)
        self.proof.note("held")
        self._command(f"greenroom ssh {failed['id']} 'web[0]' -- {shlex.quote(QUESTION)}")
        access = client.post(f"/v1/runs/{failed['id']}/ssh")
        status = login.log_in(access, "web-0", [QUESTION])
        if status != OK:
            raise Complaint(f"the command on web-0 ended with exit status {status}", FAILED)

    def _release(self, failed: Json) -> None:
        self._title("Give everything back")
        self._command(f"greenroom release {failed['id']}")
        runs.release(failed["id"])
        with self.out.waiting("Taking the nodes back"):
            left = ending.until_none(lambda: ending.standing(connect()))
        if left:
            raise Complaint(f"{', '.join(one['id'] for one in left)} did not go away", FAILED)

    def sum_up(self) -> None:
        """The table of the runs and the proof; the command ends when something is left."""
        self._title("What it took")
        rows = [(name, render.coloured(run["verdict"]), *_seconds(run), f"{took:.1f}") for name, run, took in self.runs]
        self.out.table(("run", "verdict", *STAGES, "push to end, s"), rows)
        self.out.say(f"Configured by {self.configured_by}.")
        self._title("What is left")
        self.proof.show(self.out)
        self.proof.check()
        self.out.show("[green]Nothing is left.[/]")

    def _title(self, text: str) -> None:
        self.out.show(f"\n[bold]{text}[/]")

    def _command(self, line: str) -> None:
        self.out.say(f"$ {line}")


def _warnings(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if not QUIET.search(line)][-MOST_LINES:])


def _expect_ok(act: Callable[[], None]) -> None:
    """Call a command that ends with an exit status."""
    try:
        act()
    except typer.Exit as ended:
        if ended.exit_code != OK:
            raise


def _run_of(client: Client, sha: str) -> str:
    """The run of a commit that was just pushed."""
    deadline = time.monotonic() + ARRIVE_S
    while time.monotonic() < deadline:
        for trigger in client.items("/v1/triggers", 10):
            if trigger["sha"] == sha:
                planned = watch.planned(client, trigger["id"])
                return str(planned["run"]) or _ignored(planned)
        time.sleep(LOOK_S)
    raise Complaint(f"the push of {sha} did not arrive; see hooks.log", FAILED)


def _ignored(trigger: Json) -> str:
    raise Complaint(f"the push was ignored: {trigger['reason']}", FAILED)


def _seconds(run: Json) -> Sequence[str]:
    spent = {stage["name"]: stage["seconds"] for stage in run["stages"]}
    return [render.seconds(spent[stage]) or "-" for stage in STAGES]


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def play(out: Output, provider: str) -> None:
    """Tell the story in a place of its own, on nodes of a provider, and clear it away whatever happens."""
    began = time.monotonic()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    with temporary_place(provider) as place:
        story = Story(out, place, Developer(place))
        out.say(f"This happens in {place.root}; look on from another terminal with GREENROOM_HOME={place.home}")
        story.tell()
        story.sum_up()
    out.say(f"The demo took {time.monotonic() - began:.1f} s.")
    if os.path.lexists(place.root):
        raise Complaint(f"{place.root} is still there", FAILED)
