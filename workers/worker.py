"""Worker processes: forking ones for what may take long, non-forking ones for each provider."""

from __future__ import annotations

import gc
import logging
import time

from redis.client import Pipeline
from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import BaseWorker, DequeueStrategy

from pipeline.envs.jobs import STATUS_QUEUE, WORK_QUEUE, ending_queue, provider_queue
from workers.lifeline import die_with
from workers.tasks import application, work

log = logging.getLogger(__name__)
#: Seconds between two signs of life to RQ's own tools, which take a worker for dead after minutes.
HEARTBEAT_S = 1.0


class _Calm(BaseWorker):
    """Says that it lives once a second at most: RQ would say it three times a job, with three synced writes each."""

    _said_at = float("-inf")

    def heartbeat(self, timeout: int | None = None, pipeline: Pipeline | None = None) -> None:
        moment = time.monotonic()
        if pipeline is None and timeout is None and moment - self._said_at < HEARTBEAT_S:
            return
        self._said_at = moment
        super().heartbeat(timeout, pipeline)


class BookWorker(_Calm, SimpleWorker):
    """Does its jobs itself, over connections that stay open."""


class StageWorker(_Calm, Worker):
    """Forks a work-horse for each job, which dies with its worker."""

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        die_with(self.pid or 0)
        super().main_work_horse(job, queue)


def serve_work() -> None:
    """Stages and plans: what may take long or hang."""
    _warm_up()
    _serve(StageWorker, WORK_QUEUE)


def serve_statuses() -> None:
    """What forges are told."""
    _serve(BookWorker, STATUS_QUEUE)


def serve_provider(name: str) -> None:
    """Everything that one provider is asked, over connections that stay open."""
    application().warm_up_provider(name)
    _serve(BookWorker, provider_queue(name), ending_queue(name))


def _serve(kind: type[BaseWorker], *names: str) -> None:
    """A job of each queue in turn, while they have some."""
    connection = application().redis
    queues = [Queue(name, connection=connection, serializer=JSONSerializer) for name in names]
    worker = kind(queues, connection=connection, serializer=JSONSerializer)
    worker.work(logging_level="WARNING", dequeue_strategy=DequeueStrategy.ROUND_ROBIN)


def _warm_up() -> None:
    """Before the first fork; connections close again, for no two processes may share one."""
    work()
    application().warm_up()
    gc.collect()
    gc.freeze()  # a collection in a work-horse would otherwise touch, and so copy, every page of its parent
    application().redis.connection_pool.disconnect()
