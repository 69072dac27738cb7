"""Hiding secrets in a stream of output, wherever it was cut."""

from __future__ import annotations

import re
from collections.abc import Iterable

MASK = b"***"
#: Lines of a secret of several lines (a private key) are hidden one by one when they are at least so long.
_SHORTEST_LINE = 8


class Mask:
    """Replaces secrets; what may be the beginning of one is held back until it is clear."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = sorted({part for secret in secrets for part in _parts(secret)}, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, self._secrets))) if self._secrets else None
        self._firsts = {secret[0] for secret in self._secrets}
        self._longest = len(self._secrets[0]) if self._secrets else 0
        self._held = b""

    def take(self, data: bytes) -> bytes:
        """What may be shown after this piece came."""
        if self._pattern is None:
            return data
        self._held += data
        return self._release(self._pattern)

    def rest(self) -> bytes:
        """What was held back, when nothing more comes."""
        held, self._held = self._held, b""
        return self._pattern.sub(MASK, held) if self._pattern else held

    def _release(self, pattern: re.Pattern[bytes]) -> bytes:
        shown, position = [], 0
        while True:
            held = self._open_end(position)
            match = pattern.search(self._held, position)
            if match is None or held <= match.start():
                break
            shown += [self._held[position : match.start()], MASK]
            position = match.end()
        shown.append(self._held[position:held])
        self._held = self._held[held:]
        return b"".join(shown)

    def _open_end(self, position: int) -> int:
        """Where the longest end begins that more output could make a secret of."""
        size = len(self._held)
        for start in range(max(position, size - self._longest + 1), size):
            if self._held[start] not in self._firsts:
                continue
            end = self._held[start:]
            if any(len(secret) > len(end) and secret.startswith(end) for secret in self._secrets):
                return start
        return size


def _parts(secret: str) -> Iterable[bytes]:
    """The secret itself, and its lines."""
    lines = [line.strip() for line in secret.splitlines()]
    whole = secret.strip()
    return [part.encode() for part in (whole, *(line for line in lines if len(line) >= _SHORTEST_LINE)) if part]
