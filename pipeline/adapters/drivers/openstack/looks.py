"""Looks at all servers of a deployment, which everybody shares who waits for some of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

#: From one look to the next, in seconds.
LOOK_S = 1.0


class Looks:
    """One list an interval, whatever the number of environments that wait; any number of threads at once."""

    def __init__(self, list_: Callable[[str], Sequence[Any]]) -> None:
        self._list = list_
        self._lock = threading.Lock()
        self._last: dict[str, tuple[float, Sequence[Any]]] = {}

    def after(self, moment: float, tag: str) -> Sequence[Any]:
        """The servers with a tag as a list shows them that was asked for after `moment`, of the monotonic clock."""
        with self._lock:
            asked, found = self._last.get(tag, (-LOOK_S, ()))
            if asked > moment:
                return found
            time.sleep(max(0.0, asked + LOOK_S - time.monotonic()))
            asked = time.monotonic()
            found = self._list(tag)
            self._last[tag] = (asked, found)
            return found
