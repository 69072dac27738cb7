"""Queues carry jobs to workers; the truth about the work lives in the store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pipeline.ports.stores import JobRequest


class JobQueue(Protocol):
    """Called by the leader alone. TransientError when the queue does not answer.

    PermanentError for a job that it cannot take; none or some of the others were added then.
    """

    def enqueue(self, jobs: Sequence[JobRequest]) -> None:
        """Add jobs at the end of their queues; one whose id is waiting already is not added again."""

    def waiting(self, jobs: Sequence[JobRequest]) -> Sequence[bool]:
        """Whether each job waits in its queue (False: a worker took it, or it was lost)."""
