"""A small HTTP/1.1 load generator over kept connections, in a process of its own: `python -m tests.bench.load`."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Load:
    """`requests` POSTs of `body` over `connections`; at `rate` per second when given, else as fast as answered.

    `{n}` in a header's value becomes the number of the request.
    """

    port: int
    path: str
    body: str
    headers: Mapping[str, str]
    requests: int
    connections: int = 16
    rate: float = 0.0


@dataclass(frozen=True)
class Result:
    """Seconds in all, seconds of each request, and how many had which status."""

    seconds: float
    latencies: list[float]
    statuses: dict[str, int]

    @property
    def per_second(self) -> float:
        return len(self.latencies) / self.seconds


def run(load: Load) -> Result:
    """Generate the load in another process, so that neither side's interpreter slows the other's."""
    words = json.dumps({**vars(load), "headers": dict(load.headers)})
    argv = [sys.executable, "-m", "tests.bench.load"]
    done = subprocess.run(argv, input=words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    answer: dict[str, Any] = json.loads(done.stdout)
    return Result(**answer)


async def _connection(load: Load, numbers: asyncio.Queue[tuple[int, float]], result: Result) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", load.port)
    while True:
        try:
            number, due = numbers.get_nowait()
        except asyncio.QueueEmpty:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        began = due or time.perf_counter()
        writer.write(_request(load, number))
        status = await _answer(reader)
        result.latencies.append(time.perf_counter() - began)
        result.statuses[status] = result.statuses.get(status, 0) + 1
    writer.close()
    await writer.wait_closed()


def _request(load: Load, number: int) -> bytes:
    body = load.body.encode()
    headers = "".join(f"{name}: {value.format(n=number)}\r\n" for name, value in load.headers.items())
    head = f"POST {load.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    await reader.readexactly(length)
    return head.split(" ", 2)[1]


async def _generate(load: Load) -> Result:
    numbers: asyncio.Queue[tuple[int, float]] = asyncio.Queue()
    start = time.perf_counter()
    for number in range(load.requests):
        numbers.put_nowait((number, start + number / load.rate if load.rate else 0.0))
    result = Result(0.0, [], {})
    await asyncio.gather(*(_connection(load, numbers, result) for _ in range(load.connections)))
    return Result(time.perf_counter() - start, result.latencies, result.statuses)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(vars(asyncio.run(_generate(Load(**json.load(sys.stdin)))))))
