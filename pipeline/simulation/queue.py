"""Runs that wait for a place, in the order of production, and what each project has in use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pipeline.domain.admission import Line, Use, shares_of
from pipeline.simulation.scenario import Job


class Queue:
    """What waits, and what is in use and wanted by project."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.waiting: dict[str, Job] = {}
        self.in_use: dict[str, Use] = {name: Use() for name in weights}
        self.wanted: dict[str, Use] = {name: Use() for name in weights}
        self._line = Line()

    def add(self, job: Job) -> None:
        self.waiting[job.id] = job
        self._line.add(job.turn)
        self.wanted[job.project] = self.wanted[job.project].plus(job.shape.use)

    def remove(self, job: Job) -> None:
        del self.waiting[job.id]
        self._line.remove(job.turn)
        self.wanted[job.project] = self.wanted[job.project].plus(job.shape.use, -1)

    def take(self, job: Job) -> None:
        """A run has its place."""
        self.in_use[job.project] = self.in_use[job.project].plus(job.shape.use)

    def give_back(self, job: Job) -> None:
        self.in_use[job.project] = self.in_use[job.project].plus(job.shape.use, -1)

    def in_turn(self, now: float) -> Iterator[Job]:
        """Runs as the scheduler looks at them."""
        for turn in self._line.in_turn(shares_of(self.in_use, self.weights.__getitem__), now):
            yield self.waiting[turn.id]
