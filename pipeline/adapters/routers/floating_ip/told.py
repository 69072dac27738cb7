"""What a router of floating addresses was told of environments: a file that outlives its processes.

Where hosts lead is no part of it: that stands at the addresses in the cloud.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.clients.router_files import backend_in, write_whole
from pipeline.domain.errors import CapacityError
from pipeline.domain.traffic import Backend

FILE = "told.json"


@dataclass(frozen=True)
class Room:
    """How many environments a router knows at most, and of how many targets each."""

    backends: int = 48
    targets: int = 16


@dataclass(frozen=True)
class Told:
    """Backends by their environments."""

    backends: Mapping[str, Backend] = field(default_factory=dict)

    def with_backend(self, name: str, room: Room, backend: Backend) -> Told:
        """A host of its own that another one had is that one's no more. CapacityError when it does not fit."""
        if len(backend.targets) > room.targets:
            raise CapacityError(
                f"router {name} takes {room.targets} targets of a backend, and environment {backend.environment} has "
                f"{len(backend.targets)}; raise `router.targets` in the settings"
            )
        others = self.without(backend.environment).backends
        if len(others) >= room.backends:
            raise CapacityError(
                f"router {name} knows {len(others)} environments already, and has no room for {backend.environment}; "
                "give environments back, or raise `router.backends` in the settings"
            )
        return Told(
            {**{id: _without_host(one, backend.host) for id, one in others.items()}, backend.environment: backend}
        )

    def without(self, environment: str) -> Told:
        return Told({id: one for id, one in self.backends.items() if id != environment})


def _without_host(backend: Backend, host: str) -> Backend:
    return replace(backend, host="") if host and backend.host == host else backend


def load(home: Path) -> Told:
    """What was told so far."""
    file = home / FILE
    if not file.exists():
        return Told()
    return Told({id: backend_in(one) for id, one in json.loads(file.read_text()).items()})


def save(home: Path, told: Told) -> None:
    write_whole(home / FILE, json.dumps({id: asdict(one) for id, one in told.backends.items()}))
