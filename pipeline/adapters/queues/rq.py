"""Jobs on RQ, in JSON: whoever can write to Redis must not be able to run code of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.queue import EnqueueData
from rq.serializers import JSONSerializer

from pipeline.domain.errors import PermanentError, TransientError
from pipeline.ports.stores import JobRequest

#: How long RQ's own tools still show a finished job, in seconds.
RESULT_TTL_S = 600
FAILURE_TTL_S = 86_400
#: Attempts are bounded by Greenroom itself; RQ's own time limit would only race it.
NO_TIMEOUT = -1


@contextmanager
def _wrapped() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise PermanentError(f"the queue takes no such job: {error}") from error
    except RedisError as error:
        raise TransientError(f"the queue does not answer: {error}; check that Redis runs") from error


class RqJobQueue:
    """`JobQueue` on RQ: a job's function is `workers.tasks.<task>`."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def enqueue(self, jobs: Sequence[JobRequest]) -> None:
        with _wrapped():
            waits = self._waiting([(job.queue, job.id) for job in jobs])
            fresh = {job.id: job for job, waiting in zip(jobs, waits, strict=True) if not waiting}
            ordered = sorted(fresh.values(), key=lambda job: job.queue)
            for queue, members in groupby(ordered, key=lambda job: job.queue):
                self._queue(queue).enqueue_many([_prepared(job) for job in members])

    def waiting(self, jobs: Sequence[JobRequest]) -> Sequence[bool]:
        with _wrapped():
            return self._waiting([(job.queue, job.id) for job in jobs])

    def served_by(self, queue: str) -> int:
        """How many workers listen to a queue; one that was killed counts until it is missed."""
        with _wrapped():
            return Worker.count(queue=self._queue(queue))

    def _waiting(self, places: Sequence[tuple[str, str]]) -> list[bool]:
        pipe = self._redis.pipeline(transaction=False)
        for queue, id in places:
            pipe.lpos(f"rq:queue:{queue}", id)
        return [position is not None for position in pipe.execute()]

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self._redis, serializer=JSONSerializer)


def _prepared(job: JobRequest) -> EnqueueData:
    return Queue.prepare_data(
        f"workers.tasks.{job.task}",
        args=list(job.args),
        job_id=job.id,
        timeout=NO_TIMEOUT,
        result_ttl=RESULT_TTL_S,
        failure_ttl=FAILURE_TTL_S,
        description=f"{job.task} {' '.join(job.args)}",
    )
