"""The shop's database: a key-value store that speaks lines over TCP and keeps every write in a file.

GET key | SET key value | ADD key number | PING, answered by `+ value`, or `- reason`.
"""

from __future__ import annotations

import socket
import sys
import threading
from pathlib import Path

MAX_LINE = 64 * 1024


class Store:
    """Values by key; every change is appended to the file before it is answered."""

    def __init__(self, path: Path, max_keys: int) -> None:
        self._lock = threading.Lock()
        self._max_keys = max_keys
        self._values: dict[str, str] = {}
        self._load(path)
        self._file = path.open("a", encoding="utf-8")

    def answer(self, line: str) -> str:
        """Do what one line asks for."""
        command, _, rest = line.partition(" ")
        key, _, value = rest.partition(" ")
        if command == "PING":
            return "+ PONG"
        if command == "GET":
            return f"+ {self._values[key]}" if key in self._values else "- no such key"
        if command in ("SET", "ADD") and key:
            return self._write(command, key, value)
        return "- not understood"

    def _write(self, command: str, key: str, value: str) -> str:
        with self._lock:
            if key not in self._values and len(self._values) >= self._max_keys:
                return "- full"
            if command == "ADD":
                value = str(int(self._values.get(key, "0")) + int(value or "1"))
            self._values[key] = value
            self._file.write(f"{key} {value}\n")
            self._file.flush()
            return f"+ {value}"

    def _load(self, path: Path) -> None:
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            key, _, value = line.partition(" ")
            self._values[key] = value


def serve(connection: socket.socket, store: Store) -> None:
    """Answer lines until the client leaves."""
    with connection, connection.makefile("rw", encoding="utf-8", newline="\n") as stream:
        while line := stream.readline(MAX_LINE):
            try:
                answer = store.answer(line.rstrip("\n"))
            except ValueError as error:
                answer = f"- {error}"
            stream.write(answer + "\n")
            stream.flush()


def read_settings(path: str) -> dict[str, str]:
    """All `name = value` lines of a file."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if "=" in line and not line.startswith("#")]
    return {name.strip(): value.strip() for name, _, value in pairs}


def main(path: str) -> None:
    """Listen for ever."""
    wanted = read_settings(path)
    store = Store(Path(wanted["data"]) / "shop.data", int(wanted.get("max_keys", "10000")))
    listener = socket.create_server(("0.0.0.0", int(wanted["port"])))  # noqa: S104 - the web nodes must reach it
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=serve, args=(connection, store), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
