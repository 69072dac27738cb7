"""The in-memory twin of routers."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.domain.errors import TransientError


@dataclass
class MemoryRouter:
    """`Router` whose live environments are what it was told. Knob: `down` makes every call raise TransientError."""

    name: str
    live: set[str] = field(default_factory=set)
    down: bool = False

    def serving(self) -> frozenset[str]:
        if self.down:
            raise TransientError(f"router {self.name} does not answer: it was told to be down")
        return frozenset(self.live)
