"""A deployment of real processes in a directory of its own, for the time of one measurement."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import redis

START_S = 30.0
STOP_S = 10.0


@dataclass
class Deployment:
    """Processes by name, and how to reach the API."""

    home: Path
    api_port: int
    hooks_port: int
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "GREENROOM_HOME": str(self.home)}

    @property
    def redis_socket(self) -> Path:
        return self.home / "run" / "redis.sock"

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start `python -m ARGUMENTS`."""
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *arguments], env=self.env, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.processes[name] = process
        return process

    def client(self) -> httpx.Client:
        token = (self.home / "token").read_text().strip()
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.api_port}", headers={"Authorization": f"Bearer {token}"}, timeout=30
        )

    def wait_ready(self) -> None:
        """Until the API answers with its store."""
        wait_http(f"http://127.0.0.1:{self.api_port}/readyz")


def wait_http(url: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise TimeoutError(f"{url} did not answer within {START_S} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def deployment(providers: str, names: Sequence[str]) -> Iterator[Deployment]:
    """Redis, the API, and the processes named: `work`, `tick`, `provider NAME`."""
    home = Path(tempfile.mkdtemp(prefix="greenroom-bench."))
    made = Deployment(home, free_port(), free_port())
    (home / "run").mkdir()
    (home / "redis").mkdir()
    settings = f'api_bind = "127.0.0.1:{made.api_port}"\nhooks_bind = "127.0.0.1:{made.hooks_port}"\n{providers}'
    (home / "config.toml").write_text(settings)
    try:
        _start_redis(made)
        made.start("api", "pipeline.api.server", "api")
        for number, name in enumerate(names):
            made.start(f"{name.replace(' ', '-')}-{number}", "workers", *name.split())
        made.wait_ready()
        yield made
    finally:
        _stop(made)
        shutil.rmtree(home)


def _start_redis(made: Deployment) -> None:
    options = ["--port", "0", "--unixsocket", str(made.redis_socket), "--appendonly", "yes"]
    options += ["--appendfsync", "always", "--save", "", "--dir", str(made.home / "redis")]
    process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    made.processes["redis"] = process
    client = redis.Redis(unix_socket_path=str(made.redis_socket))
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            client.ping()
            return
        except redis.ConnectionError:
            time.sleep(0.02)
    raise TimeoutError("redis-server did not answer")


def _stop(made: Deployment) -> None:
    """End in the reverse order of the start, so that nothing loses its store while it ends."""
    for process in reversed(made.processes.values()):
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
