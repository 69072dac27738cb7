"""Worker processes: forking ones for what may take long, non-forking ones for each provider."""

from __future__ import annotations

import gc
import logging

from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from pipeline.envs.jobs import STATUS_QUEUE, WORK_QUEUE, provider_queue
from workers.lifeline import die_with
from workers.tasks import application, work

log = logging.getLogger(__name__)


class StageWorker(Worker):
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
    _serve(SimpleWorker, STATUS_QUEUE)


def serve_provider(name: str) -> None:
    """Everything that one provider is asked, over connections that stay open."""
    application().warm_up_provider(name)
    _serve(SimpleWorker, provider_queue(name))


def _serve(kind: type[Worker] | type[SimpleWorker], name: str) -> None:
    connection = application().redis
    queue = Queue(name, connection=connection, serializer=JSONSerializer)
    kind([queue], connection=connection, serializer=JSONSerializer).work(logging_level="WARNING")


def _warm_up() -> None:
    """Before the first fork; connections close again, for no two processes may share one."""
    work()
    application().warm_up()
    gc.collect()
    gc.freeze()  # a collection in a work-horse would otherwise touch, and so copy, every page of its parent
    application().redis.connection_pool.disconnect()
