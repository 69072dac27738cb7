"""A load at a fixed rate in a process of its own: `python -m tests.bench.steady PORT HOST [RATE]`.

Requests are due at fixed moments, whatever became of earlier ones, over connections that are kept; every fiftieth takes
3 s, and WebSockets are opened again as they end. A line on standard input ends it. One JSON line tells each request:
when it was sent, when its answer was there, its status (0: cut or refused), and the slot that answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

RATE, CONNECTIONS, SLOW_EVERY = 500, 60, 50
#: Of requests that take 3 s there are 10 a second.
SLOW_CONNECTIONS = 40
WEBSOCKETS = 4
ANSWER_S = 20.0
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _head(host: str, path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n".encode()


class Steady:
    """One load, until it is told to end."""

    def __init__(self, port: int, host: str, rate: float = RATE) -> None:
        self.port, self.host, self.rate = port, host, rate
        self.told: list[tuple[str, float, float, int, str]] = []
        self.end = asyncio.Event()
        self._began = time.time()
        self._next = {"/": 0, "/slow": 0}

    async def run(self) -> None:
        sockets = [asyncio.create_task(self._websocket()) for _ in range(WEBSOCKETS)]
        await asyncio.gather(
            self._until_told(),
            *(self._kept("/") for _ in range(CONNECTIONS)),
            *(self._kept("/slow") for _ in range(SLOW_CONNECTIONS)),
            *sockets,
        )

    async def _until_told(self) -> None:
        await asyncio.to_thread(sys.stdin.readline)
        self.end.set()

    def _due(self, path: str) -> float:
        """When the next request of a kind is to be sent: one of each fifty is slow."""
        number = self._next[path]
        self._next[path] += 1
        slot = number * SLOW_EVERY if path == "/slow" else number + number // (SLOW_EVERY - 1) + 1
        return self._began + slot / self.rate

    async def _kept(self, path: str) -> None:
        stream: Stream | None = None
        while not self.end.is_set():
            await asyncio.sleep(max(0.0, self._due(path) - time.time()))
            if stream is None:
                stream = await asyncio.open_connection("127.0.0.1", self.port)
            sent = time.time()
            status, slot = await self._ask(stream, path)
            self.told.append((path, sent, time.time(), status, slot))
            if status == 0:
                stream[1].close()
                stream = None

    async def _ask(self, stream: Stream, path: str) -> tuple[int, str]:
        reader, writer = stream
        try:
            writer.write(_head(self.host, path))
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), ANSWER_S)).decode().lower()
            await reader.readexactly(int(_header(head, "content-length")))
        except (OSError, asyncio.IncompleteReadError, TimeoutError):
            return 0, ""
        return int(head.split(" ", 2)[1]), _header(head, "x-slot")

    async def _websocket(self) -> None:
        """Opened again when it ends; its life is told."""
        more = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        while not self.end.is_set():
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(_head(self.host, "/", more))
            sent, head = time.time(), (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            ended, told = asyncio.ensure_future(reader.read(1)), asyncio.ensure_future(self.end.wait())
            await asyncio.wait({ended, told}, return_when=asyncio.FIRST_COMPLETED)
            kind = "ws" if ended.done() else "ws-open"
            self.told.append((kind, sent, time.time(), int(head.split(" ", 2)[1]), _header(head, "x-slot")))
            ended.cancel()
            told.cancel()
            writer.close()


def _header(head: str, name: str) -> str:
    return head.partition(f"\r\n{name}: ")[2].partition("\r\n")[0]


if __name__ == "__main__":
    load = Steady(int(sys.argv[1]), sys.argv[2], *map(float, sys.argv[3:]))
    asyncio.run(load.run())
    for line in load.told:
        sys.stdout.write(json.dumps(line) + "\n")
