"""`greenroom up`, `down` and the commands between, as processes of this machine, with nodes in memory."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.demo.place import free_ports

pytestmark = [
    pytest.mark.redis,
    pytest.mark.timeout(240),
    pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs a redis-server: run make setup"),
    pytest.mark.skipif(shutil.which("git") is None, reason="needs git: run make setup"),
]
BLUEPRINT = """\
version: 1
service: tiny
on: {push: {branches: [main]}}
environment:
  image: any
  roles:
    web: {count: 2, size: small}
test: []
"""
SETTINGS = """\
api_bind = "127.0.0.1:{api}"
hooks_bind = "127.0.0.1:{hooks}"
public_url = "http://127.0.0.1:{api}"
default_provider = "memory"
workers = 1
[providers.memory]
driver = "memory"
workers = 1
"""
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Machine:
    """A home, and the command line on it."""

    root: Path

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "GIT_"))}
        person = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        names = {f"GIT_{role}_{key}": "t@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        return {**kept, **person, **names, "GREENROOM_HOME": str(self.home)}

    def argv(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "pipeline.cli.main", *arguments]

    def __call__(self, *arguments: str, expect: int = 0) -> str:
        done = subprocess.run(
            self.argv(*arguments), capture_output=True, text=True, env=self.env, timeout=120, check=False
        )
        assert done.returncode == expect, f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout if expect == 0 else done.stdout + done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.home / "run/up.json").read_text())
        return facts

    def pids(self) -> dict[str, int]:
        return {name: process["pid"] for name, process in self.facts()["processes"].items()}

    def git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], env=self.env, cwd=self.root, check=True, capture_output=True, timeout=60)

    def mine(self) -> list[str]:
        """Processes that were told of this home."""
        mark = f"GREENROOM_HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


def until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not happen within {PATIENCE_S} s"
        time.sleep(0.05)


@contextlib.contextmanager
def machine() -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="gr-up-") as root:
        one = Machine(Path(root))
        one.home.mkdir()
        api, hooks = free_ports(2)
        (one.home / "config.toml").write_text(SETTINGS.format(api=api, hooks=hooks))
        try:
            yield one
        finally:
            if (one.home / "run/up.json").exists():
                os.kill(one.facts()["pid"], signal.SIGTERM)
                until(lambda: not one.mine(), "the end of everything")


@pytest.fixture(scope="module")
def up() -> Iterator[Machine]:
    """A deployment that is up, with a project and its hooked repository."""
    with machine() as one:
        one("up", "--detach")
        one.git("init", "--quiet", "--bare", "--initial-branch=main", "tiny.git")
        one.git("clone", "--quiet", "tiny.git", "work")
        (one.root / "work/greenroom.yml").write_text(BLUEPRINT)
        one.git("-C", "work", "add", "--all")
        one.git("-C", "work", "commit", "--quiet", "--message", "one")
        one.git("-C", "work", "push", "--quiet", "origin", "HEAD:main")
        one("project", "add", "tiny", "--repository", str(one.root / "tiny.git"))
        yield one


def test_the_home_is_private(up: Machine) -> None:
    assert up.home.stat().st_mode & 0o777 == 0o700
    assert (up.home / "token").stat().st_mode & 0o777 == 0o600


def test_a_second_up_says_that_one_is_running(up: Machine) -> None:
    assert f"as process {up.facts()['pid']}" in up("up", expect=4)


def test_a_healthy_deployment_passes_the_doctor(up: Machine) -> None:
    assert all(check["ok"] for check in up.json("doctor"))


def test_a_run_is_waited_for_shown_and_logged(up: Machine) -> None:
    run = up.json("run", str(up.root / "tiny.git@main"), "--wait")
    assert run["verdict"] == "passed"
    shown = up.json("show", run["id"][-6:])
    assert shown["run"]["id"] == run["id"]
    assert shown["environment"]["state"] == "destroyed"
    assert re.search(r"deliver +passed", up("show", "last"))
    assert "web-0" in up("logs", "last", "deliver")
    assert "web-0" in up("logs", run["id"], "--follow")
    assert up.json("runs", "--limit", "1")[0]["id"] == run["id"]
    assert up.json("environments")[0]["owner"] == run["id"]


def test_a_push_through_the_hook_runs(up: Machine) -> None:
    up("hook", "install", str(up.root / "tiny.git"))
    up.git("-C", "work", "commit", "--quiet", "--allow-empty", "--message", "two")
    up.git("-C", "work", "push", "--quiet", "origin", "HEAD:main")
    until(lambda: up.json("triggers")[0]["kind"] == "push", "the trigger")
    until(lambda: up.json("triggers")[0]["run"] != "", "the run")
    until(lambda: bool(up.json("show", "last")["run"]["verdict"] == "passed"), "the verdict")


def test_a_run_is_done_again_whole(up: Machine) -> None:
    first = up.json("run", "--wait")
    again = up.json("rerun", "last", "--wait")
    assert (again["rerun_of"], again["verdict"]) == (first["id"], "passed")
    assert "not held any more" in up("rerun", "last", "--from", "test", expect=4)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["show", "nope"], "greenroom runs"),
        (["logs", "last", "nope"], "it has: deliver-1"),
        (["run", "@--upload-pack=x"], "reads like an option"),
        (["run", "--project", "nope"], "there is no project nope"),
        (["project", "add", "tiny"], "tiny"),
        (["ssh", "last"], "cannot be reached"),
        (["hook", "install", "/"], "no git repository"),
    ],
)
def test_what_cannot_be_done_is_refused(up: Machine, arguments: list[str], words: str) -> None:
    if arguments[-1] == "last" or "last" in arguments:
        up("run", "--wait")
    assert words in up(*arguments, expect=4)


def test_what_dies_is_restarted(up: Machine) -> None:
    before = up.pids()
    for name in ("redis", "work-1", "tick"):
        os.kill(before[name], signal.SIGKILL)
    until(lambda: all(up.pids()[name] not in (None, before[name]) for name in ("redis", "work-1", "tick")), "a restart")
    assert up.json("run", "--wait")["verdict"] == "passed"


def test_everything_dies_with_the_supervisor_and_what_was_stored_stays() -> None:
    with machine() as one:
        one("up", "--detach", "--workers", "2")
        assert "work-2" in one.pids()
        one("project", "add", "kept")
        os.kill(one.facts()["pid"], signal.SIGKILL)
        until(lambda: not one.mine(), "the end of everything")
        one("up", "--detach")
        assert [project["name"] for project in one.json("project", "ls")] == ["kept"]
        one("down")
        assert one.mine() == []
        assert not (one.home / "run/up.json").exists()


def test_in_the_foreground_it_ends_with_the_terminal() -> None:
    with machine() as one, subprocess.Popen(one.argv("up"), env=one.env, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert any("stop" in line for line in command.stdout)
        command.send_signal(signal.SIGINT)
        assert command.wait(60) == 0
        assert one.mine() == []


def test_a_killed_terminal_takes_everything_along() -> None:
    with machine() as one, subprocess.Popen(one.argv("up"), env=one.env, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert any("stop" in line for line in command.stdout)
        command.kill()
        until(lambda: not one.mine(), "the end of everything")


def test_a_store_that_does_not_start_is_told() -> None:
    with machine() as one:
        (one.home / "redis").write_text("in the way")
        assert "it did not start" in one("up", "--detach", expect=1)
        assert one.mine() == []


def test_a_port_in_use_is_told() -> None:
    with machine() as one, socket.create_server(("127.0.0.1", 0)) as taken:
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        assert f"nothing can listen on {bind}" in one("up", "--hooks-bind", bind, expect=1)
        assert "HOST:PORT" in one("up", "--hooks-bind", "nowhere", expect=2)
        assert one.mine() == []
