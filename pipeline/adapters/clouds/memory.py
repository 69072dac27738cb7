"""The in-memory twin of every cloud: it shows what it was given."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.domain.errors import InfraError
from pipeline.ports.clouds import Sight


@dataclass
class MemorySky:
    """`Cloud` whose sight is set by hand. `fail`: errors to raise, one a call."""

    sight: Sight = field(default_factory=Sight)
    fail: list[InfraError] = field(default_factory=list)

    def look(self) -> Sight:
        if self.fail:
            raise self.fail.pop(0)
        return self.sight

    def close(self) -> None:
        """Nothing is kept open."""
