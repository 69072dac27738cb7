"""The only way out of a sandbox: one Unix socket a node, each leading to that node's SSH port and nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pipeline.ports.transports import NodeAccess

_PIECE = 64 * 1024
#: Connections of one sandbox at the same time; more wait.
_AT_ONCE = 64
_CONNECT_S = 10.0


@contextmanager
def relays(nodes: Sequence[NodeAccess], directory: str) -> Iterator[None]:
    """Serve `<directory>/<node>.sock` for every node from a thread of this process."""
    relay = _Relay()
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for node in nodes:
            # The address of a Unix socket has room for 107 bytes, whatever the directory's length.
            relay.serve(node, f"/proc/self/fd/{handle}/{node.name}.sock")
        yield
    finally:
        relay.close()
        os.close(handle)


class _Relay:
    """An event loop in a thread, and the connections that it carries."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._gate = asyncio.Semaphore(_AT_ONCE)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sandbox-relay", daemon=True)
        self._thread.start()

    def serve(self, node: NodeAccess, path: str) -> None:
        self._do(self._listen(node, path))

    def close(self) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _listen(self, node: NodeAccess, path: str) -> None:
        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = self._loop.create_task(self._carry(node, reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._servers.append(await asyncio.start_unix_server(accepted, path))

    async def _carry(self, node: NodeAccess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with self._gate:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    node_reader, node_writer = await asyncio.open_connection(node.address, node.port)
            except (OSError, TimeoutError):  # the client sees a closed connection, and says so
                writer.close()
                return
            with contextlib.closing(writer), contextlib.closing(node_writer), contextlib.suppress(OSError):
                await asyncio.gather(_copy(reader, node_writer), _copy(node_reader, writer))

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on one direction to its end. OSError when either side is gone."""
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()
    writer.write_eof()
