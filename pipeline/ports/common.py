"""Small types that several ports share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

#: Takes a piece of live output; called from one thread at a time, in order.
Sink = Callable[[bytes], None]


@dataclass(frozen=True)
class Secret:
    """A value that prints as `***`; `reveal()` is the only way to it."""

    value: str = field(repr=False)

    def reveal(self) -> str:
        return self.value

    def __repr__(self) -> str:
        return "Secret('***')"

    def __str__(self) -> str:
        return "***"


@dataclass(frozen=True)
class Limits:
    """Bounds of one command: seconds in all, seconds without output, bytes of output."""

    total_s: float
    silence_s: float
    output_bytes: int = 20 * 1024 * 1024


class LimitExceeded(Exception):
    """A command overran its `Limits` and was ended; `which` is `total`, `silence` or `output`."""

    def __init__(self, which: str, message: str) -> None:
        super().__init__(message)
        self.which = which


class Clock(Protocol):
    """Wall time; the one source of `now` for the application."""

    def now(self) -> float:
        """Seconds since the epoch."""

    def sleep(self, seconds: float) -> None:
        """Wait in the calling thread."""


class Ids(Protocol):
    """Fresh names. Safe to call from any thread."""

    def new(self, prefix: str) -> str:
        """`prefix-` and 12 characters `[0-9a-z]`, sorted by the time of their making, never given twice."""

    def token(self) -> str:
        """An unguessable string of at least 128 bits."""

    def dice(self) -> float:
        """A number in [0, 1), for jitter."""
