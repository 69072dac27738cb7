"""How far a build of nodes is, and how long it and each part of it may take."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What a build has to become next: its provider shows the nodes, they run, they can be logged in to."""

    ACCEPTED = "accepted"
    ACTIVE = "active"
    ANSWERING = "answering"


@dataclass(frozen=True)
class Progress:
    """A build waits for the end of `phase` since `since` (epoch seconds)."""

    phase: Phase
    since: float


@dataclass(frozen=True)
class Deadlines:
    """How long may last, in seconds: a build as a whole, and each of its phases; None: what is left of the whole."""

    build: float = 900.0
    accepted: float | None = None
    active: float | None = None
    answering: float | None = None

    def of(self, phase: Phase) -> float | None:
        return {Phase.ACCEPTED: self.accepted, Phase.ACTIVE: self.active, Phase.ANSWERING: self.answering}[phase]


def advanced(progress: Progress | None, phase: Phase, began: float, now: float) -> Progress:
    """What a build waits for now, and since when; `began`: when its nodes were asked for."""
    known = progress or Progress(Phase.ACCEPTED, began)
    return known if known.phase is phase else Progress(phase, now)


def spent(deadlines: Deadlines, began: float, now: float) -> str:
    """Whether the whole time of a build is over, in words; empty while it is not."""
    return f"not ready after {deadlines.build:.0f} s" if now - began > deadlines.build else ""


def overdue(deadlines: Deadlines, began: float, progress: Progress, now: float) -> str:
    """Which time is over, in words; empty while none is."""
    limit_s = deadlines.of(progress.phase)
    late = limit_s is not None and now - progress.since > limit_s
    return spent(deadlines, began, now) or (f"not {progress.phase} after {limit_s:.0f} s" if late else "")
