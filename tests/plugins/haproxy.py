"""HAProxy of a test, and servers on loopback that answer behind it; ended by what started them."""

from __future__ import annotations

import http.server
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pipeline.adapters.routers.haproxy import HaproxyRouter, Layout
from pipeline.domain.errors import TransientError
from pipeline.domain.traffic import Target

PATIENCE_S = 15.0
#: To the key that RFC 6455 has as its example (1.3).
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def eventually(told: Callable[[], bool]) -> bool:
    """Whether it becomes true within a bounded time."""
    deadline = time.monotonic() + PATIENCE_S
    while not told():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        origin = self.server
        assert isinstance(origin, Origin)
        if self.headers.get("Upgrade") == "websocket":
            self._stay()
            return
        body = origin.word.encode()
        self.send_response(origin.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stay(self) -> None:
        """Keep the connection until the other side ends it."""
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", ACCEPT)
        self.end_headers()
        self.rfile.read(1)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class Origin(http.server.ThreadingHTTPServer):
    """Answers every request with its word and its status, and keeps what becomes a WebSocket."""

    daemon_threads = True

    def __init__(self, word: str) -> None:
        super().__init__(("127.0.0.1", 0), _Answering)
        self.word = word
        self.status = 200

    @property
    def target(self) -> Target:
        return Target("127.0.0.1", int(self.server_address[1]))


@contextmanager
def origin(word: str) -> Iterator[Origin]:
    with Origin(word) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass
class Haproxy:
    """One HAProxy at a free port of loopback."""

    home: Path
    port: int = field(default_factory=free_port)
    tls_port: int = 0
    certificate: Path | None = None
    plain: int = 4
    sticky: int = 1
    targets: int = 3
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def layout(self) -> Layout:
        tls = f"127.0.0.1:{self.tls_port}" if self.tls_port else ""
        return Layout(self.home, f"127.0.0.1:{self.port}", tls, self.certificate, self.plain, self.sticky, self.targets)

    @property
    def router(self) -> HaproxyRouter:
        return HaproxyRouter("front", self.layout)

    def start(self) -> None:
        with (self.home / "haproxy.log").open("ab") as log:
            self._process = subprocess.Popen(self.router.prepare(), stdout=log, stderr=log)
        if not eventually(self._serves):
            raise RuntimeError(f"HAProxy did not start: {(self.home / 'haproxy.log').read_text()}")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _serves(self) -> bool:
        try:
            self.router.known()
        except TransientError:
            return False
        return True


@pytest.fixture
def haproxy() -> Iterator[Haproxy]:
    """A started HAProxy."""
    if shutil.which("haproxy", path="/usr/sbin:/usr/bin:/usr/local/sbin") is None:
        pytest.skip("haproxy is missing: run make setup")
    with tempfile.TemporaryDirectory(prefix="greenroom-haproxy-") as home:
        server = Haproxy(Path(home))
        server.start()
        try:
            yield server
        finally:
            server.stop()
