"""Looks at all servers of an account, which everybody shares who waits for some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

#: From one look to the next, in seconds.
LOOK_S = 1.0


class Looks:
    """One list an interval, whatever the number of environments that wait; any number of threads at once."""

    def __init__(self, list_: Callable[[], Sequence[Any]]) -> None:
        self._list = list_
        self._lock = threading.Lock()
        self._last: tuple[float, Sequence[Any]] = (-LOOK_S, ())

    def after(self, moment: float) -> Sequence[Any]:
        """The servers as a list shows them that was asked for after `moment`, of the monotonic clock."""
        with self._lock:
            asked, found = self._last
            if asked > moment:
                return found
            time.sleep(max(0.0, asked + LOOK_S - time.monotonic()))
            asked = time.monotonic()
            found = self._list()
            self._last = (asked, found)
            return found
