"""Wall time and fresh names; the only place that reads a clock or throws dice."""

from __future__ import annotations

import random
import secrets
import threading
import time

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


class SystemClock:
    """`Clock` of this machine."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class ManualClock:
    """The twin: stands still until it is told to move; a sleep moves it."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.time = start

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class RandomIds:
    """`Ids`: eight digits of milliseconds, then four random ones, so that names sort by age."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def new(self, prefix: str) -> str:
        with self._lock:
            self._last = max(self._last + 1, time.time_ns() // 1_000_000)
            moment = self._last
        return f"{prefix}-{_base36(moment, 8)}{_base36(secrets.randbelow(36**4), 4)}"

    def token(self) -> str:
        return secrets.token_urlsafe(24)

    def dice(self) -> float:
        return random.random()  # noqa: S311  # spreads retries, protects nothing


class CountingIds:
    """The twin: names and tokens by count, dice always in the middle."""

    def __init__(self) -> None:
        self._count = 0

    def new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}-{self._count:012d}"

    def token(self) -> str:
        self._count += 1
        return f"token-{self._count}"

    def dice(self) -> float:
        return 0.5


def _base36(number: int, width: int) -> str:
    digits = ""
    for _ in range(width):
        number, rest = divmod(number, 36)
        digits = DIGITS[rest] + digits
    return digits
