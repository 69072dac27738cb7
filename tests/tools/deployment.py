"""A deployment of real processes in a private home: Redis, ticks, workers and listeners, each ended by its pid."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from pipeline.bootstrap import Application
from pipeline.domain.runs import Run
from pipeline.settings import ProviderSettings, Settings
from tests.plugins.redis_server import RedisServer

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
PATIENCE_S = 30.0
LOOK_S = 0.05
#: What a commit of a test has besides its blueprint.
SCRIPT = {"setup.sh": "#!/bin/sh\n"}


def wait_for(look: Callable[[], T | None], what: str, within_s: float = PATIENCE_S, every_s: float = LOOK_S) -> T:
    """The first answer that says something; AssertionError when none came in time. `every_s`: between two looks."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(every_s)
    raise AssertionError(f"{what} did not happen within {within_s:g} s")


def memory_settings(home: Path, redis_url: str) -> Settings:
    """Settings of a deployment whose only provider is in memory."""
    memory = ProviderSettings(driver="memory")
    return Settings(home=home, redis_url=redis_url, default_provider="memory", providers={"memory": memory})


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def make_repository(place: Path, blueprint: object) -> str:
    """A git repository with one commit on `main`; its path."""
    place.mkdir()
    for name, text in {**SCRIPT, "greenroom.yml": json.dumps(blueprint)}.items():
        (place / name).write_text(text)
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "."], [*identity, "commit", "-q", "-m", "first"]):
        subprocess.run(["git", *words], cwd=place, check=True, capture_output=True, timeout=30)
    return str(place)


@dataclass
class Deployment:
    """Everything below `home`; nothing runs until it is started."""

    home: Path
    redis: RedisServer
    hooks_port: int = field(default_factory=free_port)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @cached_property
    def app(self) -> Application:
        """This process' own view of the deployment."""
        return Application(
            Settings(
                home=self.home,
                redis_url=self.redis.url,
                default_provider="memory",
                providers={"memory": ProviderSettings(driver="memory", poll_s=0.2)},
            )
        )

    @property
    def environment(self) -> dict[str, str]:
        config = (
            f'redis_url = "{self.redis.url}"\ndefault_provider = "memory"\n'
            f'hooks_bind = "127.0.0.1:{self.hooks_port}"\n[providers.memory]\ndriver = "memory"\npoll_s = 0.2\n'
        )
        (self.home / "config.toml").write_text(config)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GREENROOM_")}
        return {**kept, "GREENROOM_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def start(self, module: str, *arguments: str, **more: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                cwd=ROOT,
                env={**self.environment, **more},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        self.processes.append(process)
        return process

    @property
    def log(self) -> Path:
        return self.home / "processes.log"

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start("tests.standins.slow_worker", "work")

    def provider(self) -> subprocess.Popen[bytes]:
        return self.start("tests.standins.slow_worker", "provider", "memory")

    def tick(self) -> subprocess.Popen[bytes]:
        return self.start("workers", "tick")

    def slow(self, place: str) -> None:
        """Let the next command or call at a place take long."""
        (self.home / f"in-{place}").unlink(missing_ok=True)
        (self.home / f"slow-{place}").touch()

    def is_in(self, place: str) -> None:
        """Wait until somebody takes long there."""
        wait_for((self.home / f"in-{place}").exists, f"a worker in {place}")

    def submit(self, project: str, repository: str) -> Callable[[], Run | None]:
        """Ask for a run; the answer looks it up."""
        trigger = self.app.control.submit(project, repository, "main", "main", "tester")

        def look() -> Run | None:
            run_id = self.app.books.triggers.get(trigger.id).value.run_id
            return self.app.books.runs.get(run_id).value if run_id else None

        return look

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        self.app.redis.close()
        self.redis.stop()
