"""Virtual time: what is due happens in order, and nothing waits."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class Loop:
    """A queue of acts; those of one moment happen in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, time: float, act: Callable[[], None]) -> None:
        """Do something at a time, at once if that is over."""
        heapq.heappush(self._due, (max(time, self.now), next(self._order), act))

    def run(self, until: float) -> None:
        """Let time pass, up to and with `until`."""
        while self._due and self._due[0][0] <= until:
            self.now, _, act = heapq.heappop(self._due)
            act()
        self.now = until
