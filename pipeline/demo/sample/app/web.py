"""The shop's web server: a little HTTP in front of the database.

GET /             how often the shop was visited, and which node and release answer
GET /health       200 when the database answers, else 503
GET /price/CENTS  the amount as the shop shows it
GET|PUT /items/X  read and write an item
"""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 503: "Service Unavailable"}
MAX_BODY = 64 * 1024

Answer = tuple[int, str]


def price(cents: int) -> str:
    """Show an amount as people write it."""
    return f"{cents // 100}.{cents % 100:02d}"


class Database:
    """Asks one question per connection."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)

    def ask(self, line: str) -> str | None:
        """The value; None when the database has none. OSError when it does not answer."""
        with socket.create_connection(self._address, timeout=3) as connection:
            connection.sendall(line.encode() + b"\n")
            with connection.makefile(encoding="utf-8") as stream:
                verdict, _, value = stream.readline().rstrip("\n").partition(" ")
        return value if verdict == "+" else None


class Shop:
    """What the shop answers to a request."""

    def __init__(self, database: Database, node: str, release: str) -> None:
        self._database = database
        self._node = node
        self._release = release

    def answer(self, method: str, path: str, body: str) -> Answer:
        """Status and text; 503 when the database does not answer."""
        _, first, *rest = path.split("/")
        try:
            return self._route(first, method, rest[0] if rest else "", body)
        except OSError as error:
            return 503, f"the database does not answer: {error}\n"

    def _route(self, first: str, method: str, key: str, body: str) -> Answer:
        if first == "":
            return self._home()
        if first == "health":
            return self._health()
        if first == "price":
            return (200, price(int(key)) + "\n") if key.isdecimal() else (400, "not a number of cents\n")
        if first == "items" and method == "PUT":
            return self._keep(key, body)
        if first == "items":
            return self._item(key)
        return 404, "nothing here\n"

    def _home(self) -> Answer:
        visits = self._database.ask("ADD visits 1")
        return 200, f"Welcome to the shop!\nvisits: {visits}\nnode: {self._node}\nrelease: {self._release}\n"

    def _health(self) -> Answer:
        return (200, "ok\n") if self._database.ask("PING") == "PONG" else (503, "the database is odd\n")

    def _keep(self, key: str, body: str) -> Answer:
        self._database.ask(f"SET item-{key} {body.partition(chr(10))[0]}")
        return 200, "kept\n"

    def _item(self, key: str) -> Answer:
        value = self._database.ask(f"GET item-{key}")
        return (404, "no such item\n") if value is None else (200, value + "\n")


def serve(connection: socket.socket, shop: Shop) -> None:
    """Read one request and answer it."""
    connection.settimeout(10)
    with connection, connection.makefile("rwb") as stream:
        try:
            method, path, _ = stream.readline(8192).decode().split(" ")
            length = content_length(stream.readline)
            body = stream.read(min(length, MAX_BODY)).decode()
            status, text = shop.answer(method, path.partition("?")[0], body)
        except ValueError:
            status, text = 400, "not understood\n"
        except OSError:
            return  # the client left
        content = text.encode()
        head = f"HTTP/1.1 {status} {REASONS[status]}\r\nContent-Type: text/plain\r\nContent-Length: {len(content)}\r\n"
        stream.write(head.encode() + b"Connection: close\r\n\r\n" + content)


def content_length(readline: Callable[[int], bytes]) -> int:
    """Read the headers to their end; the body's length."""
    length = 0
    while (line := readline(8192).strip()) != b"":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return length


def read_settings(path: str) -> dict[str, str]:
    """All `name = value` lines of a file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def main(path: str) -> None:
    """Listen for ever."""
    wanted = read_settings(path)
    database = Database(wanted["database_host"], int(wanted["database_port"]))
    release = Path(__file__).resolve().parent.parent.name
    shop = Shop(database, socket.gethostname(), release)
    listener = socket.create_server(("0.0.0.0", int(wanted["port"])), backlog=128)  # noqa: S104 - it is a web server
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, shop), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
