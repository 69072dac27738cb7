"""What found no place: remembered, so that nobody looks again as long as nothing changed that would help."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import count

from pipeline.domain.environments import Environment
from pipeline.domain.placement.model import Request
from pipeline.domain.placement.requests import request_of
from pipeline.domain.rules import OperatorRule
from pipeline.domain.waits import Hindrance

Rules = tuple[OperatorRule, ...]
#: Whose refusal it is: that of a kind of requests, or of one request that has places waiting for it.
Key = int | str


@dataclass(frozen=True)
class Refusal:
    """Why requests found no place, and under which circumstances: while these last, and until `until` (epoch seconds)
    at most, they are not worth another look.
    """

    under: tuple[object, ...]
    why: str
    hindrance: Hindrance = Hindrance.ROOM
    until: float = math.inf


class Refusals:
    """Kept by one scheduler. Requests that ask for the same are of one kind: what one of them is refused, all are."""

    def __init__(self) -> None:
        self._seen: dict[Key, Refusal] = {}
        self._kinds: dict[str, tuple[tuple[object, ...], int]] = {}
        self._numbers: dict[tuple[str, Request], int] = {}
        self._next = count()

    def kind(self, environment: Environment, rules: Rules) -> int:
        """The number of all requests that ask for the same at the same provider; `rules` are laid on its roles."""
        made_of = (rules, environment.avoid)
        known = self._kinds.get(environment.id)
        if known is None or known[0] != made_of:
            asked = (environment.provider, replace(request_of(environment, rules), environment=""))
            if asked not in self._numbers:
                self._numbers[asked] = next(self._next)
            known = self._kinds[environment.id] = (made_of, self._numbers[asked])
        return known[1]

    def note(self, key: Key, refusal: Refusal) -> None:
        self._seen[key] = refusal

    def find(self, key: Key, under: tuple[object, ...], now: float) -> Refusal | None:
        """The refusal that still holds."""
        found = self._seen.get(key)
        return None if found is None or found.under != under or now >= found.until else found

    def keep(self, waiting: Collection[str]) -> None:
        """Forget all but those that wait."""
        self._kinds = {id: known for id, known in self._kinds.items() if id in waiting}
        numbers = {number for _, number in self._kinds.values()}
        self._numbers = {asked: number for asked, number in self._numbers.items() if number in numbers}
        self._seen = {key: seen for key, seen in self._seen.items() if key in numbers or key in waiting}
