"""A slot of the bench `promote`, in a process of its own: `python -m tests.bench.slot_server WORD ADDRESS PORT`.

Every answer carries the slot's word. `/slow` answers after 3 s. The slot `bad` answers with errors, but is
well when its health is looked at. A WebSocket is kept until its other side ends it.
"""

from __future__ import annotations

import asyncio
import sys

SLOW_S = 3.0
#: To the key that RFC 6455 has as its example, which the load sends (1.3).
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


async def _serve(word: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            path = head.split(b" ", 2)[1].decode()
            if b"upgrade: websocket" in head.lower():
                await _stay(word, reader, writer)
                return
            if path == "/slow":
                await asyncio.sleep(SLOW_S)
            status = "500 Broken" if word == "bad" and path != "/health" else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nx-slot: {word}\r\ncontent-length: 2\r\n\r\nok".encode())
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def _stay(word: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    words = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    words += f"sec-websocket-accept: {ACCEPT}\r\n"
    writer.write(f"{words}x-slot: {word}\r\n\r\n".encode())
    while await reader.read(64):
        pass


async def main(word: str, address: str, port: int) -> None:
    server = await asyncio.start_server(lambda r, w: _serve(word, r, w), address, port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
