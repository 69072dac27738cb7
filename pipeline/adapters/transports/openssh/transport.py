"""The transport: environments' directories, and what is open in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.adapters.transports.openssh.config import checked_name, for_a_person, kept_connections, known_hosts
from pipeline.adapters.transports.openssh.connection import OpenSshConnection
from pipeline.adapters.transports.openssh.directory import (
    EnvironmentDirectory,
    key_text,
    private_directory,
    write_private,
)
from pipeline.adapters.transports.openssh.masters import Masters
from pipeline.adapters.transports.openssh.probe import probe
from pipeline.ports.transports import EnvironmentAccess


class OpenSshTransport:
    """A `Transport`. `directory` is one for all processes of a deployment: kept connections are found through it."""

    def __init__(self, directory: str) -> None:
        self._root = Path(directory).absolute()

    @contextmanager
    def connect(self, access: EnvironmentAccess) -> Iterator[OpenSshConnection]:
        directory = self._directory(access.environment_id)
        private_directory(self._root)
        directory.write(access, kept_connections(access.nodes), known_hosts(access.nodes))
        yield OpenSshConnection(access, Masters(directory), directory.path)

    def probe(self, access: EnvironmentAccess, timeout_s: float) -> Mapping[str, str]:
        return asyncio.run(probe(access, timeout_s))

    def command_line(self, access: EnvironmentAccess, node: str, directory: str) -> Sequence[str]:
        place = private_directory(Path(directory).absolute())
        write_private(place / "key", key_text(access))
        write_private(place / "known_hosts", known_hosts(access.nodes))
        write_private(place / "config", for_a_person(access.nodes, str(place)))
        return ["ssh", "-F", str(place / "config"), checked_name(node)]

    def close(self, environment_id: str) -> None:
        directory = self._directory(environment_id)
        if directory.path.exists():
            Masters(directory).end_all()
            directory.remove()

    def close_all(self) -> None:
        """End everything that is kept open below this transport's directory: the whole deployment stops."""
        if self._root.exists():
            for place in sorted(self._root.iterdir()):
                self.close(place.name)

    def _directory(self, environment_id: str) -> EnvironmentDirectory:
        return EnvironmentDirectory(self._root / checked_name(environment_id))
