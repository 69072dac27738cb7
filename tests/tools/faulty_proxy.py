"""A proxy in front of a cloud's APIs that spoils some answers, and keeps a log that proves it."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

#: Headers that belong to one connection alone.
HOP = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "host"})


@dataclass(frozen=True)
class Answer:
    """What an API said; `None` as the whole answer: the connection is closed without a word.

    `missing`: bytes of the body that are announced and do not come.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0


@dataclass(frozen=True)
class Certificate:
    """PEM files of a certificate and its key."""

    file: Path
    key: Path


Forward = Callable[[], Answer]
Spoil = Callable[[Forward], Answer | None]


@dataclass
class Fault:
    """Spoils the first `times` calls of a method whose path matches; `spoil` may forward the call or not.

    `about`: words that its query or body must have, as those of all calls about one environment do. Methods may be
    several, as in `POST|DELETE`. `after`: so many such calls are let through first.
    """

    name: str
    method: str
    path: str
    spoil: Spoil
    times: int = 1
    about: str = ""
    after: int = 0

    def meets(self, method: str, path: str, body: bytes) -> bool:
        meant = re.fullmatch(self.method, method) is not None and re.search(self.path, path) is not None
        return meant and self.times > 0 and (self.about in path or self.about.encode() in body)


@dataclass
class FaultyProxy:
    """Forwards `/NAME/…` to the URL of that name. `calls` and `happened` are in the order in which things came."""

    upstream: Mapping[str, str]
    faults: list[Fault] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    happened: list[str] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def url(self, name: str) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/{name}"

    def fault_of(self, method: str, path: str, body: bytes) -> Fault | None:
        """The fault that this call meets, which is used up by it."""
        with self._lock:
            self.calls.append(f"{method} {path}")
            meant = [one for one in self.faults if one.meets(method, path, body)]
            found = next((one for one in meant if one.after <= 0), None)
            for one in meant:
                one.after -= 1
            if found is not None:
                found.times -= 1
                self.happened.append(found.name)
            return found

    def forward(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        name, _, rest = path.lstrip("/").partition("/")
        where = urlsplit(self.upstream[name])
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=60)
        try:
            kept = {key: value for key, value in headers.items() if key.lower() not in HOP}
            connection.request(method, f"{where.path}/{rest}", body or None, kept)
            answer = connection.getresponse()
            told = {key: value for key, value in answer.getheaders() if key.lower() not in HOP}
            return Answer(answer.status, answer.read(), told)
        finally:
            connection.close()


@contextmanager
def faulty_proxy(upstream: Mapping[str, str], tls: Certificate | None = None) -> Iterator[FaultyProxy]:
    """A proxy that listens on loopback, with TLS when it has a certificate."""
    proxy = FaultyProxy(upstream, scheme="https" if tls else "http")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        #: Headers and body leave together: of two small packets the second would wait for the first's receipt.
        wbufsize = -1

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = proxy.fault_of(self.command, self.path, body)

            def forward() -> Answer:
                return proxy.forward(self.command, self.path, dict(self.headers), body)

            answer = fault.spoil(forward) if fault is not None else forward()
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer.status)
            for key, value in answer.headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(answer.body) + answer.missing))
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = self.close_connection or answer.missing > 0

        do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = handle_any  # noqa: N815  # http.server's names

        def log_message(self, format: str, *args: object) -> None:
            """The log is the proxy's own."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls.file, tls.key)
        # each connection shakes hands in its own thread, so that one that refuses stops nobody else
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    proxy.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def says(status: int, message: str = "an injected fault", **headers: str) -> Callable[[Forward], Answer]:
    """The API is not asked."""
    body = json.dumps({"error": {"message": message}}).encode()
    told = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return lambda _: Answer(status, body, told)


def silent_after(forward: Forward) -> None:
    """The act happens, and nobody hears of it."""
    forward()


def fails_after(forward: Forward) -> Answer:
    """The act happens, and the answer says that it did not."""
    forward()
    return Answer(504, b"", {"Content-Type": "text/plain"})


def truncated(forward: Forward) -> Answer:
    answer = forward()
    return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)


def broken_off(forward: Forward) -> Answer:
    """The act happens, and the connection ends within the answer."""
    answer = forward()
    half = len(answer.body) // 2
    return Answer(answer.status, answer.body[:half], answer.headers, missing=len(answer.body) - half)


def late(seconds: float) -> Callable[[Forward], None]:
    """The act happens when whoever called no longer waits."""

    def spoil(forward: Forward) -> None:
        time.sleep(seconds)
        forward()

    return spoil


def down_for(seconds: float) -> Spoil:
    """From the first call on nobody answers for a while, and then all is well."""
    ends: list[float] = []

    def spoil(forward: Forward) -> Answer | None:
        if not ends:
            ends.append(time.monotonic() + seconds)
        return None if time.monotonic() < ends[0] else forward()

    return spoil


def slow(forward: Forward) -> Answer:
    time.sleep(3.0)
    return forward()
