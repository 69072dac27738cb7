"""What `greenroom up` runs: the programs of a deployment, in the order in which they start."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pipeline.settings import Settings

#: What a socket may take to answer, in seconds.
ANSWER_S = 2.0
#: Who looked after addresses so long ago does so no more, in seconds.
LOOKED_S = 30.0
#: Programs of a phase start when those of the earlier ones are ready, and end before them.
STORE, NODES, ROUTER, LISTENERS, WORKERS, TICK = range(6)
_PYTHON = (sys.executable, "-P")


@dataclass(frozen=True)
class Program:
    """One process. `ready` tells whether it serves, where others need that to begin.

    `piped`: its standard input is a pipe whose end tells it to end, since a signal may not be sent to root's process.
    """

    name: str
    argv: tuple[str, ...]
    phase: int
    ready: Callable[[], bool] | None = None
    piped: bool = False


def programs(settings: Settings) -> list[Program]:
    """Everything that these settings ask for."""
    wanted = [] if settings.redis_url else [_redis(settings)]
    if any(provider.driver == "local" for provider in settings.providers.values()):
        wanted.append(_node_helper(settings))
    if settings.base_domain:
        wanted.append(_router(settings))
    wanted += [_listener("api"), _listener("hooks")]
    wanted += [_worker(f"work-{i}", "work") for i in range(1, settings.workers + 1)]
    wanted.append(_worker("statuses", "statuses"))
    for name, provider in settings.providers.items():
        wanted += [_worker(f"provider-{name}-{i}", "provider", name) for i in range(1, provider.workers + 1)]
    return [*wanted, Program("tick", (*_PYTHON, "-m", "workers", "tick"), TICK)]


def _listener(which: str) -> Program:
    return Program(which, (*_PYTHON, "-m", "pipeline.api.server", which), LISTENERS)


def _worker(name: str, *arguments: str) -> Program:
    return Program(name, (*_PYTHON, "-m", "workers", *arguments), WORKERS)


def _redis(settings: Settings) -> Program:
    """A Redis that nobody reaches but through its socket, and that keeps what it answered."""
    place = settings.home / "redis"
    place.mkdir(mode=0o700, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(settings.redis_socket),
        "unixsocketperm": "700",
        "dir": str(place),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    return Program("redis", ("redis-server", *words), STORE, lambda: redis_answers(settings.redis_socket))


def _router(settings: Settings) -> Program:
    return Program("router", (*_PYTHON, "-m", "workers", "router"), ROUTER, lambda: router_is_well(settings))


def _node_helper(settings: Settings) -> Program:
    become_root = () if os.geteuid() == 0 else ("sudo", "-n", "--")
    # Root must not leave bytecode in a user's tree.
    start = (*become_root, sys.executable, "-P", "-B", "-m", "workers", "nodes")
    options = {
        "--socket": str(settings.helper_socket),
        "--state": str(settings.helper_state),
        "--owner": str(os.getuid()),
        "--deployment": settings.deployment,
    }
    words = [word for pair in options.items() for word in pair]
    return Program("nodes", (*start, *words), NODES, lambda: helper_answers(settings.helper_socket), piped=True)


def redis_answers(path: Path) -> bool:
    """Whether it has read its file and serves."""
    return _ask(path, b"PING\r\n").startswith(b"+PONG")


def helper_answers(path: Path) -> bool:
    return b'"ok"' in _ask(path, json.dumps({"do": "ping"}).encode() + b"\n")


def router_is_well(settings: Settings) -> bool:
    """Whether HAProxy answers, or somebody looks after floating addresses."""
    if settings.router.kind == "haproxy":
        return bool(_ask(settings.router_dir / "haproxy.sock", b"show version\n"))
    looked = settings.router_dir / "looked"
    return looked.exists() and time.time() - looked.stat().st_mtime < LOOKED_S


def _ask(path: Path, words: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(ANSWER_S)
        try:
            client.connect(str(path))
            client.sendall(words)
            return client.recv(4096)
        except OSError:
            return b""
