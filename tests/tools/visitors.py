"""Visitors who come again and again, while something is done to what they visit."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def visitors(visit: Callable[[], None], at_once: int, pause_s: float = 0.0) -> Iterator[None]:
    """So many at once visit, pause and visit again, each to the end of a visit that is begun."""
    over = threading.Event()

    def stay() -> None:
        while not over.wait(pause_s):
            visit()

    threads = [threading.Thread(target=stay) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
