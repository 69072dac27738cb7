"""How far a build of nodes is, and how long it may take to its milestones and its end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Milestone(StrEnum):
    """What the nodes of a build become, in this order: shown by their provider, running, and open to a login."""

    ACCEPTED = "accepted"
    ACTIVE = "active"
    ANSWERING = "answering"


@dataclass(frozen=True)
class Progress:
    """A build waits for a milestone since `since` (epoch seconds)."""

    next: Milestone
    since: float


@dataclass(frozen=True)
class Deadlines:
    """How long may last, in seconds: a build as a whole, and the way to each milestone; None: what is left."""

    build: float = 900.0
    accepted: float | None = None
    active: float | None = None
    answering: float | None = None

    def of(self, milestone: Milestone) -> float | None:
        """How long the way to a milestone may last, from the one before."""
        limits = {
            Milestone.ACCEPTED: self.accepted,
            Milestone.ACTIVE: self.active,
            Milestone.ANSWERING: self.answering,
        }
        return limits[milestone]


def advanced(progress: Progress | None, awaited: Milestone, began: float, now: float) -> Progress:
    """What a build waits for now, and since when; `began`: when its nodes were asked for."""
    known = progress or Progress(Milestone.ACCEPTED, began)
    return known if known.next is awaited else Progress(awaited, now)


def spent(deadlines: Deadlines, began: float, now: float) -> str:
    """Whether the whole time of a build is over, in words; empty while it is not."""
    return f"not ready after {deadlines.build:.0f} s" if now - began > deadlines.build else ""


def overdue(deadlines: Deadlines, began: float, progress: Progress, now: float) -> str:
    """Which time is over, in words; empty while none is."""
    limit_s = deadlines.of(progress.next)
    late = limit_s is not None and now - progress.since > limit_s
    return spent(deadlines, began, now) or (f"not {progress.next} after {limit_s:.0f} s" if late else "")
