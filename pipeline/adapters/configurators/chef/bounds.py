"""What one converge may take, and the last words of what it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pipeline.ports.common import LimitExceeded, Limits, Sink


class Budget:
    """The seconds that one converge has for all its commands."""

    def __init__(self, limits: Limits, monotonic: Callable[[], float]) -> None:
        self._limits = limits
        self._monotonic = monotonic
        self._end = monotonic() + limits.total_s

    def limits(self) -> Limits:
        """What is left for the next command; LimitExceeded when nothing is."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise LimitExceeded("total", f"converging took more than {self._limits.total_s:g} s")
        return replace(self._limits, total_s=left)


class Tail:
    """A sink that passes everything on and keeps the last words."""

    SIZE = 1000

    def __init__(self, output: Sink) -> None:
        self._output = output
        self._kept = b""

    def __call__(self, piece: bytes) -> None:
        self._output(piece)
        self._kept = (self._kept + piece)[-self.SIZE :]

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()
