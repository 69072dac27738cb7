"""Runs that wait for a place, in the order in which they are asked for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from pipeline.domain.admission import RANK
from pipeline.simulation.scenario import Job

#: Waiting so long makes up for one step of priority, so that nothing starves.
AGING_S = 1800.0


class Queue:
    """What waits, and how much vcpu each project has in use."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        self.weights = weights
        self.waiting: dict[str, Job] = {}
        self.in_use: dict[str, float] = defaultdict(float)

    def ordered(self, now: float) -> list[Job]:
        """By priority with aging, then by how little of its share the project has, then by age."""

        def key(job: Job) -> tuple[int, float, float]:
            rank = RANK[job.priority] - int((now - job.since) // AGING_S)
            return rank, self.share(job.project), job.since

        return sorted(self.waiting.values(), key=key)

    def share(self, project: str) -> float:
        """The vcpu in use of a project, by its weight."""
        return self.in_use[project] / self.weights[project]

    def contenders(self) -> list[str]:
        """The projects of which something waits."""
        return sorted({job.project for job in self.waiting.values()})
