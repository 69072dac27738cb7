"""A private Redis for each test session, durable as Greenroom wants it: on a Unix socket, ended by its pid."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import redis

PATIENCE_S = 10.0


@dataclass
class RedisServer:
    """One redis-server below `home`; `options` are its settings besides the usual ones."""

    home: Path
    options: tuple[str, ...] = ("--appendonly", "yes", "--appendfsync", "always")
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def socket(self) -> Path:
        return self.home / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        place = ("--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.home), "--save", "")
        log = (self.home / "redis.log").open("ab")
        with log:
            self._process = subprocess.Popen(["redis-server", *place, *self.options], stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE_S
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise RuntimeError(f"redis-server did not start: {(self.home / 'redis.log').read_text()}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, socket_timeout=10)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.exceptions.ConnectionError:
                return False


@pytest.fixture(scope="session")
def redis_session() -> Iterator[RedisServer]:
    """The session's own server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: run make setup")
    with tempfile.TemporaryDirectory(prefix="greenroom-redis-") as home:
        server = RedisServer(Path(home))
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def redis_server(redis_session: RedisServer) -> RedisServer:
    """The session's server, empty."""
    with redis_session.client() as client:
        client.flushall()
    return redis_session


@pytest.fixture
def redis_client(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the empty server."""
    with redis_server.client() as client:
        yield client
