"""The in-memory twin of the queue."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.ports.stores import JobRequest


class MemoryJobQueue:
    """`JobQueue` in a list. Knob: `lose` drops every job whose id it names, as a worker that died with it would."""

    def __init__(self) -> None:
        self.jobs: list[JobRequest] = []
        self.lose: set[str] = set()

    def enqueue(self, jobs: Sequence[JobRequest]) -> None:
        for job in jobs:
            if job.id in self.lose:
                self.lose.remove(job.id)
            elif all(job.id != other.id for other in self.jobs):
                self.jobs.append(job)

    def waiting(self, jobs: Sequence[JobRequest]) -> Sequence[bool]:
        ids = {job.id for job in self.jobs}
        return [job.id in ids for job in jobs]

    def take(self) -> JobRequest | None:
        """The oldest job, or None when there is none."""
        return self.jobs.pop(0) if self.jobs else None
