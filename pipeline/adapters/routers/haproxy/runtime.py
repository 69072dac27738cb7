"""Words with a running HAProxy over its socket: its runtime API."""

from __future__ import annotations

import csv
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.traffic import Target

#: What an answer may take, in seconds.
ANSWER_S = 5.0
_PIECE = 64 * 1024
#: Of a server's administrative state: it is in maintenance, or drains (management guide, 9.3).
_OUT = 0x01 | 0x02 | 0x20 | 0x08 | 0x10
#: What it says where a change was made; whatever else it says, it was not.
_FINE = ("IP changed", "no need to change", "port changed", "nothing changed")


class Runtime:
    """One HAProxy at its socket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def ask(self, command: str) -> str:
        """The answer to one command; TransientError when there is none."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                client.settimeout(ANSWER_S)
                client.connect(str(self._path))
                client.sendall(command.encode() + b"\n")
                return _all(client).strip()
        except OSError as error:
            raise TransientError(
                f"HAProxy does not answer at {self._path} ({error}); see whether it runs with `greenroom doctor`"
            ) from error

    def tell(self, commands: Sequence[str]) -> None:
        """Commands one after the other; PermanentError at the first that is refused."""
        for command in commands:
            answer = self.ask(command)
            if answer and not answer.startswith(_FINE):
                raise PermanentError(f"HAProxy refuses {command!r}: {answer}")

    def entries(self, map_file: Path) -> Mapping[str, str]:
        """What stands in a map now."""
        lines = [line.split() for line in self.ask(f"show map {map_file}").splitlines()]
        return {words[1]: words[2] for words in lines if len(words) == 3}

    def put(self, map_file: Path, key: str, value: str) -> None:
        """One entry of a map, in one change."""
        if self.ask(f"set map {map_file} {key} {value}"):  # "entry not found."
            self.tell([f"add map {map_file} {key} {value}"])

    def remove(self, map_file: Path, key: str) -> None:
        self.ask(f"del map {map_file} {key}")  # says "Key not found." where there is none, which is as good

    def targets(self) -> Mapping[str, tuple[Target, ...]]:
        """Those that get requests, by their backends."""
        found: dict[str, tuple[Target, ...]] = {}
        for backend, _, target in self._servers(""):
            found[backend] = (*found.get(backend, ()), target)
        return found

    def servers(self, backend: str) -> Mapping[str, Target]:
        """Its servers that get requests."""
        return {server: target for _, server, target in self._servers(backend)}

    def _servers(self, backend: str) -> Iterator[tuple[str, str, Target]]:
        """Backends, servers and targets; one of these is left out while it is disabled."""
        lines = [line.split() for line in self.ask(f"show servers state {backend}".strip()).splitlines()]
        head = next((words[1:] for words in lines if words[:2] == ["#", "be_id"]), None)
        if head is None:
            raise TransientError(f"HAProxy at {self._path} does not know backend {backend!r}")
        at = {name: number for number, name in enumerate(head)}
        for words in lines:
            if len(words) != len(head) or int(words[at["srv_admin_state"]]) & _OUT:
                continue
            target = Target(words[at["srv_addr"]], int(words[at["srv_port"]]))
            yield words[at["be_name"]], words[at["srv_name"]], target

    def statistics(self, backend: str) -> list[dict[str, str]]:
        """One row for each server of a backend, then one of the backend itself."""
        text = self.ask(f"show stat {backend} 6 -1").removeprefix("# ")
        return list(csv.DictReader(text.splitlines()))


def _all(client: socket.socket) -> str:
    pieces = []
    while piece := client.recv(_PIECE):
        pieces.append(piece)
    return b"".join(pieces).decode(errors="replace")
