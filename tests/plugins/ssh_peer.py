"""A real SSH server on loopback that runs commands through this machine's /bin/sh: a peer that is always there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.ports.common import Secret
from pipeline.ports.transports import EnvironmentAccess, NodeAccess


@dataclass
class _Node:
    access: NodeAccess
    host_key: Secret
    acceptor: asyncssh.SSHAcceptor | None = None
    connections: set[asyncssh.SSHServerConnection] = field(default_factory=set)
    logins: int = 0


class SshPeer:
    """Nodes of one environment; every knob may be used while clients are connected."""

    def __init__(self, names: tuple[str, ...], environment_id: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        keys = SshKeys()
        private, self._authorized = keys.ed25519("environment")
        self._nodes: dict[str, _Node] = {}
        for name in names:
            host_key, public = keys.ed25519("")
            role = name.rpartition("-")[0]
            self._nodes[name] = _Node(NodeAccess(name, role, "127.0.0.1", 0, "root", public), host_key)
            self.start(name)
        nodes = tuple(node.access for node in self._nodes.values())
        self.access = EnvironmentAccess(environment_id, private, nodes)

    def logins(self, name: str) -> int:
        """How many connections were made to a node."""
        return self._nodes[name].logins

    def start(self, name: str) -> None:
        """Listen, on the same port as before."""
        self._do(self._start(self._nodes[name]))

    def stop(self, name: str) -> None:
        """Break every connection and listen no more."""
        self._do(self._stop(self._nodes[name]))

    def swap_host_keys(self, one: str, other: str) -> None:
        """Let each of two nodes be where the other one was believed to be."""
        nodes = self._nodes[one], self._nodes[other]
        nodes[0].host_key, nodes[1].host_key = nodes[1].host_key, nodes[0].host_key
        for name in (one, other):
            self.stop(name)
            self.start(name)

    def close(self) -> None:
        for name in self._nodes:
            self.stop(name)
        self._do(_end_all())
        self._do(self._loop.shutdown_asyncgens())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self, node: _Node) -> None:
        node.acceptor = await asyncssh.listen(
            "127.0.0.1",
            node.access.port,
            server_factory=lambda: _Login(node),
            server_host_keys=[asyncssh.import_private_key(node.host_key.reveal())],
            authorized_client_keys=asyncssh.import_authorized_keys(self._authorized),
            process_factory=_run,
            encoding=None,
            line_editor=False,
            reuse_address=True,
        )
        node.access = replace(node.access, port=node.acceptor.get_port())

    async def _stop(self, node: _Node) -> None:
        if node.acceptor is not None:
            node.acceptor.close()
            await node.acceptor.wait_closed()
            node.acceptor = None
        open_ones = list(node.connections)
        for connection in open_ones:
            connection.abort()
        await asyncio.gather(*(connection.wait_closed() for connection in open_ones))


async def _end_all() -> None:
    """End what still runs, commands among it: nothing of it may outlive the loop."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


class _Login(asyncssh.SSHServer):
    def __init__(self, node: _Node) -> None:
        self._node = node
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn
        self._node.connections.add(conn)
        self._node.logins += 1

    def connection_lost(self, exc: Exception | None) -> None:
        if self._connection is not None:
            self._node.connections.discard(self._connection)


async def _run(process: asyncssh.SSHServerProcess[bytes]) -> None:
    """Run a command as sshd does: in a session of its own, which outlives the connection."""
    child = await asyncio.create_subprocess_exec(
        "/bin/sh",
        "-c",
        process.command or "exit 1",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
    try:
        await asyncio.gather(_copy(child.stdout, process.stdout), _copy(child.stderr, process.stderr))
        status = await child.wait()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        with contextlib.suppress(TimeoutError):  # who left the session keeps its pipes
            await asyncio.wait_for(asyncio.gather(child.stdout.read(), child.stderr.read(), child.wait()), 1)
        raise
    feeding.cancel()
    with contextlib.suppress(OSError):
        process.exit(status if status >= 0 else 255)


async def _feed(source: asyncssh.SSHReader[bytes], target: asyncio.StreamWriter) -> None:
    """Pass input on until it ends or the client is gone, then close it."""
    try:
        while piece := await source.read(65536):
            target.write(piece)
            await target.drain()
    except (asyncssh.Error, OSError):
        pass
    finally:
        target.close()


async def _copy(source: asyncio.StreamReader, target: asyncssh.SSHWriter[bytes]) -> None:
    """Pass output on; once the client is gone it goes nowhere, and the command runs on."""
    gone = False
    while piece := await source.read(65536):
        try:
            if not gone:
                target.write(piece)
                await target.drain()
        except (asyncssh.Error, OSError):
            gone = True


@pytest.fixture
def ssh_peer() -> Iterator[SshPeer]:
    """Two roles, three nodes."""
    peer = SshPeer(("web-0", "web-1", "db-0"), "env-peer")
    yield peer
    peer.close()


@pytest.fixture
def place_on_node(tmp_path: Path) -> Iterator[str]:
    """An absolute directory that a test may write to on the peer, which is this machine."""
    place = tmp_path / "node"
    place.mkdir()
    yield str(place)
    shutil.rmtree(place)
