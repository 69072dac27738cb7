"""What is remembered of requests that found no place: whoever asks for the same needs no other look, nor its reasons.

Thousands may wait for the same few shapes of environments, and to explain a refusal takes a hundred times as long as to
decide it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from pipeline.domain.durations import passed
from pipeline.domain.placement import engine
from pipeline.domain.placement.model import Decision, Explanation, Request, Unschedulable
from pipeline.envs.fleets import Picture

#: Seconds for which an explanation is told again before it is made anew.
EXPLAINED_S = 15.0
#: Explanations in one round; the others are told at the next ones.
MOST_EXPLAINED = 8
LATER = "there is no room now; the reasons follow"
#: A provider, and what is asked of it whoever asks.
_Shape = tuple[str, Request]


@dataclass(frozen=True)
class _Refusal:
    """`freed`: what had been freed at the provider when it was refused last. `told` was explained at `at`, when
    `explained` had been freed; nothing of the kind has happened before.
    """

    freed: int
    told: Explanation
    at: float = -math.inf
    explained: int = -1


class Refusals:
    """One scheduler uses it."""

    def __init__(self) -> None:
        self._known: dict[_Shape, _Refusal] = {}
        self._worth: dict[_Shape, tuple[int, bool]] = {}
        self._seen: set[_Shape] = set()
        self._left = MOST_EXPLAINED

    def begin(self) -> None:
        """A new round: what nobody asked for in the last one is forgotten."""
        self._known = {shape: one for shape, one in self._known.items() if shape in self._seen}
        self._worth = {shape: one for shape, one in self._worth.items() if shape in self._seen}
        self._seen, self._left = set(), MOST_EXPLAINED

    def known(self, provider: str, request: Request, picture: Picture, now: float) -> Unschedulable | None:
        """The refusal of the like of it, if nothing was freed since; None when it is worth a look."""
        refusal = self._known.get(self._shape(provider, request))
        if refusal is None or refusal.freed != picture.freed or self._explains(refusal, now):
            return None
        return Unschedulable(refusal.told)

    def decide(self, provider: str, request: Request, picture: Picture, now: float) -> Decision:
        """As the engine decides; a refusal has its reasons at once, as they were a moment ago, or at a later round."""
        shape = self._shape(provider, request)
        decision = engine.decide(picture.fleet, request, now, explain=False)
        old = self._known.pop(shape, _Refusal(picture.freed, Explanation(request.roles[0].role, LATER)))
        if isinstance(decision, Unschedulable):
            refusal = replace(old, freed=picture.freed)
            if self._explains(refusal, now):
                self._left -= 1
                decision = engine.decide(picture.fleet, request, now)
                if not isinstance(decision, Unschedulable):
                    return decision
                refusal = _Refusal(picture.freed, decision.explanation, now, picture.freed)
            self._known[shape] = refusal
            return Unschedulable(refusal.told)
        return decision

    def _explains(self, refusal: _Refusal, now: float) -> bool:
        """Whether its reasons are old, may be others by now, and can be found in this round."""
        old = refusal.explained != refusal.freed and passed(refusal.at, now, EXPLAINED_S)
        return old and self._left > 0

    def worth_waiting(self, provider: str, request: Request, picture: Picture) -> bool:
        """Whether room that is kept free would ever be enough; asked of the engine once a version of the inventory."""
        shape = self._shape(provider, request)
        version, worth = self._worth.get(shape, (-1, False))
        if version != picture.inventory_version:
            worth = engine.worth_waiting(picture.fleet, request)
            self._worth[shape] = (picture.inventory_version, worth)
        return worth

    def _shape(self, provider: str, request: Request) -> _Shape:
        """Whose it is counts only where a service of the same project is to be near."""
        near = any(role.rules.near_service is not None for role in request.roles)
        shape = (provider, replace(request, environment="", project=request.project if near else ""))
        self._seen.add(shape)
        return shape
