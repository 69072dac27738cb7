"""Server-sent events: what happens to a run, and its logs as they are written."""

from __future__ import annotations

import asyncio
import codecs
import json
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.responses import StreamingResponse

from pipeline.domain.environments import FINAL_STATES
from pipeline.ports.logs import LogStore
from pipeline.ports.stores import AsyncStore, Event

#: Seconds between two looks at a growing log.
LOG_POLL_S = 0.2
PIECE = 64 * 1024


def response(stream: AsyncIterator[bytes]) -> StreamingResponse:
    headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(stream, media_type="text/event-stream", headers=headers)


def message(event: str, data: object, id: str = "") -> bytes:
    """One server-sent event; the data is JSON, so that it stands in one line."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {event}\ndata: {json.dumps(data)}\n\n".encode()


async def run_events(store: AsyncStore, run_id: str, after: str) -> AsyncIterator[bytes]:
    """All events of a run after a position, then each as it comes, until the run is finished."""
    async for event in store.follow(run_id, after=after):
        yield message(event.type, {"at": event.at, **event.data}, event.position)
        if event.type == "run.finished":
            return


async def environment_events(store: AsyncStore, environment_id: str, after: str) -> AsyncIterator[bytes]:
    """All events of an environment after a position, then each as it comes, until nothing of it exists."""
    async for event in store.follow(environment_id, after=after):
        yield message(event.type, {"at": event.at, **event.data}, event.position)
        if event.type.removeprefix("environment.") in FINAL_STATES:
            return


async def past_events(events: Sequence[Event]) -> AsyncIterator[bytes]:
    """Those of a run that is finished; they end the stream, wherever its reader began."""
    for event in events:
        yield message(event.type, {"at": event.at, **event.data}, event.position)


async def log_lines(
    logs: LogStore, run_id: str, name: str, offset: int, is_over: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """A log from an offset on, as it grows, until it is over; the id of each event is the offset after it."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may lie in two pieces
    while True:
        over = await asyncio.to_thread(is_over)
        while piece := await asyncio.to_thread(logs.read, run_id, name, offset, PIECE):
            offset += len(piece)
            text = decoder.decode(piece)
            yield message("log", text, str(offset - len(decoder.getstate()[0])))
        if over:
            if rest := decoder.decode(b"", final=True):
                yield message("log", rest, str(offset))
            yield message("end", {}, str(offset))
            return
        await asyncio.sleep(LOG_POLL_S)
