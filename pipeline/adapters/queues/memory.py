"""The in-memory twin of the queue."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.domain.errors import PermanentError
from pipeline.ports.stores import JobRequest

#: What RQ takes as the id of a job.
ID = re.compile(r"[A-Za-z0-9_-]+")


class MemoryJobQueue:
    """`JobQueue` in a list. Knob: `lose` drops every job whose id it names, as a worker that died with it would."""

    def __init__(self) -> None:
        self.jobs: list[JobRequest] = []
        self.lose: set[str] = set()

    def enqueue(self, jobs: Sequence[JobRequest]) -> None:
        for job in jobs:
            if not ID.fullmatch(job.id):
                raise PermanentError(f"the queue takes no such job: {job.id!r} is no id")
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
