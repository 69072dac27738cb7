"""The node helper: the only part of Greenroom that runs as root. It serves one deployment over a Unix socket.

It can be killed at any time: nodes live on, and its successor continues from the records.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pipeline.adapters.drivers.local.environments import Environments, machine_memory_mib
from pipeline.adapters.drivers.local.image import DEFAULT_STATE, ensure_image, images
from pipeline.adapters.drivers.local.meter import Meter
from pipeline.adapters.drivers.local.network import Network, machine_lock
from pipeline.adapters.drivers.local.node import Builder
from pipeline.adapters.drivers.local.process import Commands, end_orphans
from pipeline.adapters.drivers.local.protocol import (
    MAX_LINE,
    NAME,
    BuildImage,
    Create,
    Destroy,
    MarkEnd,
    Plain,
    Refused,
    Request,
    listing_json,
    parse_request,
    usage_json,
)
from pipeline.adapters.drivers.local.records import RUN, Records

Progress = Callable[[str], None]

#: A client that says nothing for so long is let go.
IDLE_TIMEOUT_S = 60.0
MAX_CLIENTS = 64
WAITING_CLIENTS = 1024
DEFAULT_SUBNET = "10.211.0.0/16"


class Bell:
    """Tells the main thread to end: rung by SIGTERM, SIGINT and the request `stop`.

    Signals arrive through a pipe, because one that comes just before a blocking call would be slept over.
    """

    def __init__(self) -> None:
        self.hearer, self._ringer = socket.socketpair()
        self._ringer.setblocking(False)
        signal.set_wakeup_fd(self._ringer.fileno())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _noted)

    def ring(self) -> None:
        self._ringer.send(b"!")


def _noted(_number: int, _frame: object) -> None:
    """The signal was written to the bell already."""


class Server:
    """Answers requests, each client in a thread of its own."""

    def __init__(self, environments: Environments, meter: Meter, images_in: Path, owner: int, bell: Bell) -> None:
        self._environments = environments
        self._meter = meter
        self._images_in = images_in
        self._owner = owner
        self._bell = bell
        self._slots = threading.BoundedSemaphore(MAX_CLIENTS)
        self._idle = threading.Condition()
        self._busy = 0

    def serve(self, listener: socket.socket) -> None:
        """Take clients until the bell rings."""
        while self._bell.hearer not in select.select([listener, self._bell.hearer], [], [])[0]:
            client, _ = listener.accept()
            self._slots.acquire()
            threading.Thread(target=self._client, args=(client,), daemon=True).start()

    def finish(self) -> None:
        """Wait for the requests that are being fulfilled."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0)

    def _client(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):  # a client that went away has nobody to tell
            try:
                self._converse(client)
            finally:
                self._slots.release()

    def _converse(self, client: socket.socket) -> None:
        client.settimeout(IDLE_TIMEOUT_S)
        known = peer_uid(client) in (self._owner, 0)
        with client.makefile("rb") as lines:
            while line := lines.readline(MAX_LINE + 1):
                if not known:
                    send(client, {"error": "bad-request", "message": f"this socket serves user {self._owner} alone"})
                    return
                self._answer(client, line)
                if not line.endswith(b"\n"):
                    return

    def _answer(self, client: socket.socket, line: bytes) -> None:
        with self._idle:
            self._busy += 1
        try:
            send(client, self._fulfil(client, line))
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def _fulfil(self, client: socket.socket, line: bytes) -> dict[str, Any]:
        def progress(text: str) -> None:
            with contextlib.suppress(OSError):  # the work goes on, watched or not
                send(client, {"progress": text})

        try:
            if len(line) > MAX_LINE:
                raise Refused("bad-request", f"request: longer than {MAX_LINE} bytes")
            return {"ok": self._do(parse_request(line), progress)}
        except Refused as refused:
            return {"error": refused.code, "message": str(refused)}
        except OSError as error:
            return {"error": "transient", "message": f"this machine refused: {error}"}

    def _do(self, request: Request, progress: Progress) -> object:
        match request:
            case Create(environment):
                self._environments.create(environment)
            case Destroy(environment_id, nodes):
                self._environments.destroy(environment_id, nodes)
            case MarkEnd(environment_id, ends_at):
                self._environments.mark_end(environment_id, ends_at)
            case BuildImage(name):
                return ensure_image(self._images_in, name, progress).key
            case Plain(do):
                return self._plain(do)
        return None

    def _plain(self, do: str) -> object:
        acts: dict[str, Callable[[], object]] = {
            "ping": os.getpid,
            "images": lambda: sorted(images(self._images_in)),
            "list": lambda: listing_json(self._environments.list()),
            "usage": lambda: usage_json(self._meter.usage()),
            "clean": self._environments.clean,
            "stop": self._bell.ring,
        }
        return acts[do]()


def send(client: socket.socket, answer: dict[str, Any]) -> None:
    client.sendall(json.dumps(answer).encode() + b"\n")


def peer_uid(client: socket.socket) -> int:
    """Ask the kernel who is at the other end."""
    credentials = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    uid: int = struct.unpack("3i", credentials)[1]
    return uid


def listen(path: Path, owner: int) -> socket.socket:
    """Open the socket for one user; one that a killed helper left is replaced."""
    if path.is_socket():
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    os.lchown(path, owner, -1)  # never through a link: the directory may belong to the user
    listener.listen(WAITING_CLIENTS)
    return listener


def only_helper(deployment: str) -> int:
    """Hold the deployment's lock for the life of this process. Refused when another helper has it."""
    place = RUN / deployment
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise Refused("permanent", f"a node helper of deployment {deployment} is running already") from error
    return lock


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="greenroom-helper", description="Make and remove nodes, as root.")
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--state", type=Path, default=DEFAULT_STATE)
    parser.add_argument("--image-state", type=Path, help="where images are kept, when not in --state")
    parser.add_argument("--owner", type=int, required=True, help="user id that may use the socket")
    parser.add_argument("--deployment", required=True)
    parser.add_argument("--subnet", type=ipaddress.IPv4Network, default=ipaddress.IPv4Network(DEFAULT_SUBNET))
    parser.add_argument("--memory-mib", type=int, default=machine_memory_mib(), help="memory to promise to nodes")
    return parser.parse_args(argv)


def _check(options: argparse.Namespace) -> None:
    if os.geteuid() != 0:
        raise Refused("permanent", "the node helper makes namespaces and mounts: run it as root (sudo)")
    if not NAME.fullmatch(options.deployment):
        raise Refused("permanent", f"--deployment {options.deployment!r}: expected letters a-z, digits and -")
    for place in (options.state, options.image_state):
        _check_place(place)
    if options.subnet.prefixlen > 24:
        raise Refused("permanent", f"--subnet {options.subnet}: each environment takes a /24 of it")
    if set(f"{options.state}{options.image_state}") & set(",:\\\"' \n"):
        raise Refused("permanent", f"--state {options.state}: an overlay's directories have plain names")


def _check_place(place: Path) -> None:
    """Refuse a place that an ordinary user could swap under us, or that a node's root could not pass."""
    if place.exists() and (place.stat().st_uid != 0 or place.stat().st_mode & 0o022):
        raise Refused("permanent", f"{place} must belong to root and be writable by root alone")
    closed = [parent for parent in place.parents if parent.exists() and not parent.stat().st_mode & 0o001]
    if closed:
        raise Refused("permanent", f"nodes cannot pass {closed[0]} (no x for others): keep --state elsewhere")


def _environments(options: argparse.Namespace, records: Records) -> Environments:
    end_orphans(options.deployment)
    with machine_lock():
        pass  # makes the shared places
    commands = Commands(options.deployment)
    records.prepare()
    network = Network(commands, options.deployment, options.subnet)
    return Environments(Builder(commands, records, network), options.image_state, options.memory_mib)


def _serve(options: argparse.Namespace, bell: Bell) -> None:
    lock = only_helper(options.deployment)
    records = Records(options.state, options.deployment)
    environments = _environments(options, records)
    environments.guard()
    server = Server(environments, Meter(records), options.image_state, options.owner, bell)
    listener = listen(options.socket, options.owner)
    try:
        server.serve(listener)
    finally:
        listener.close()
        options.socket.unlink(missing_ok=True)
        server.finish()
        environments.close()
        environments.forget()
        os.close(lock)


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM, SIGINT or the request `stop`."""
    options = _arguments(argv)
    options.state = options.state.resolve()
    options.image_state = (options.image_state or options.state).resolve()
    bell = Bell()
    try:
        _check(options)
        _serve(options, bell)
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
