"""A whole deployment with real nodes: what `greenroom up` starts, in a private home, while a test or bench needs it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tomli_w

from pipeline.adapters.drivers.local.records import RUN
from pipeline.adapters.drivers.local.traces import traces
from pipeline.bootstrap import Application
from pipeline.cli.demo.place import free_ports
from pipeline.domain.runs import Run, RunState
from pipeline.settings import ProviderSettings, Settings
from tests.plugins.local_nodes import image_state
from tests.tools.deployment import wait_for

PROJECT = "shop"
#: The provider of a deployment for which nobody says another one.
LOCAL: Mapping[str, Any] = {"driver": "local", "max_nodes": 60}
COMMAND_S = 120.0
#: The kernel forgets links and control groups a moment after they were removed.
SETTLE_S = 10.0


@dataclass(frozen=True)
class Deployed:
    """A home below `root`, and the command line on it. `provider` is what the settings say of its only provider."""

    root: Path
    provider: Mapping[str, Any]

    @property
    def home(self) -> Path:
        return self.root / "home"

    @property
    def repository(self) -> Path:
        return self.root / "shop.git"

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GREENROOM_", "GIT_"))}
        person = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
        names = {f"GIT_{role}_{key}": "t@localhost" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
        return {**kept, **person, **names, "GREENROOM_HOME": str(self.home)}

    @cached_property
    def app(self) -> Application:
        """This process' own view of the deployment."""
        name = self.provider["driver"]
        providers = {name: ProviderSettings(**self.provider)}
        settings = Settings(home=self.home, helper_state=image_state(), default_provider=name, providers=providers)
        return Application(settings)

    def __call__(self, *arguments: str) -> str:
        """Run a `greenroom` command, which must succeed."""
        argv = [sys.executable, "-m", "pipeline.cli.main", *arguments]
        done = subprocess.run(argv, capture_output=True, text=True, env=self.env, timeout=COMMAND_S, check=False)
        if done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.returncode}\n{done.stdout}\n{done.stderr}\n{self.said()}")
        return done.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def pids(self) -> dict[str, int | None]:
        """Of each process of the deployment its number, none while it is being started again."""
        facts = json.loads((self.home / "run/up.json").read_text())
        return {name: process["pid"] for name, process in facts["processes"].items()}

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], env=self.env, cwd=self.root, check=True, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def add_project(self) -> None:
        """An empty bare repository, a work tree of it, and a project for it."""
        self.git("init", "--quiet", "--bare", "--initial-branch=main", str(self.repository))
        self.git("clone", "--quiet", str(self.repository), "work")
        self("project", "add", PROJECT, "--repository", str(self.repository))

    def commit(self, files: Mapping[str, str], branch: str = "main") -> str:
        """Replace all files of a branch and push it; the commit."""
        self.git("-C", "work", "checkout", "--quiet", "--orphan", branch)
        self.git("-C", "work", "rm", "-r", "-f", "-q", "--ignore-unmatch", ".")
        for name, text in files.items():
            path = self.root / "work" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o755)
        self.git("-C", "work", "add", "--all")
        self.git("-C", "work", "commit", "--quiet", "--message", branch)
        self.git("-C", "work", "push", "--quiet", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return self.git("-C", "work", "rev-parse", "HEAD")

    def run_of(self, trigger: str) -> Run | None:
        """The run of a trigger, once there is one."""
        run_id = self.app.books.triggers.get(trigger).value.run_id
        return self.app.books.runs.get(run_id).value if run_id else None

    def ended(self, trigger: str, within_s: float) -> Run:
        """The run of a trigger, which must be over in time."""
        try:
            return wait_for(lambda: self._finished(trigger), "the end of the run", within_s)
        except AssertionError as late:
            late.add_note(f"{self._told_of(self.run_of(trigger))}\n{self.said()}")
            raise

    def _told_of(self, run: Run | None) -> str:
        """A run, its environment, and what happened to both."""
        if run is None:
            return "there is no run"
        environment = self.app.books.environments.find(run.environment_id)
        subjects = [id for id in (run.id, run.environment_id) if id]
        told = [f"{event.at:.1f} {event.type} {event.data}" for id in subjects for event in self.app.store.events(id)]
        return "\n".join([str(run), str(environment), *told])

    def _finished(self, trigger: str) -> Run | None:
        run = self.run_of(trigger)
        return run if run is not None and run.state is RunState.FINISHED else None

    def said(self) -> str:
        """The last words of all processes."""
        logs = sorted((self.home / "log").glob("*.log"))
        return "\n".join(f"── {log.name}\n{log.read_text(errors='replace')[-2000:]}" for log in logs)

    def traces(self) -> dict[str, list[str]]:
        """What is there of the deployment's nodes; its processes and its helper's own directory are meant to be."""
        found = traces(self.app.settings.deployment, str(self.home))
        own = str(RUN / self.app.settings.deployment)
        left = {kind: [name for name in names if name != own] for kind, names in found.items() if kind != "processes"}
        return {kind: names for kind, names in left.items() if names}


@contextlib.contextmanager
def running(
    *, workers: int = 2, provider: Mapping[str, Any] = LOCAL, more: Mapping[str, Any] | None = None
) -> Iterator[Deployed]:
    """A deployment that is up; everything is taken back at the end, and AssertionError says what was left.

    Its only provider is called as its driver; `more` are further settings.
    """
    with tempfile.TemporaryDirectory(prefix="gr-up-") as root:
        up = Deployed(Path(root).resolve(), provider)
        up.home.mkdir(mode=0o700)
        (up.home / "config.toml").write_text(tomli_w.dumps({**_settings(workers, provider), **(more or {})}))
        up("up", "--detach")
        try:
            yield up
        finally:
            up("down", "--force")
        up.app.redis.close()
        _expect_nothing(up)


def _settings(workers: int, provider: Mapping[str, Any]) -> dict[str, Any]:
    api, hooks = free_ports(2)
    return {
        "api_bind": f"127.0.0.1:{api}",
        "hooks_bind": f"127.0.0.1:{hooks}",
        "public_url": f"http://127.0.0.1:{api}",
        "workers": workers,
        "helper_state": str(image_state()),
        "default_provider": provider["driver"],
        "providers": {provider["driver"]: dict(provider)},
    }


def _expect_nothing(up: Deployed) -> None:
    """Look until nothing is there, for a moment at most."""

    def nothing() -> bool:
        return not any(traces(up.app.settings.deployment, str(up.home)).values())

    try:
        wait_for(nothing, "the end of everything", SETTLE_S)
    except AssertionError as error:
        raise AssertionError(f"left: {traces(up.app.settings.deployment, str(up.home))}") from error
