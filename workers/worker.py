"""Worker processes: forking ones for what may take long, non-forking ones for each provider."""

from __future__ import annotations

import ctypes
import logging
import os
import signal

from rq import Queue, SimpleWorker, Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from pipeline.envs.jobs import WORK_QUEUE, provider_queue
from workers.tasks import application

log = logging.getLogger(__name__)
#: prctl(2): the signal that a process gets when its parent dies.
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Be killed when the parent dies, also when that happened already."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


class StageWorker(Worker):
    """Forks a work-horse for each job, which dies with its worker."""

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        die_with(self.pid or 0)
        super().main_work_horse(job, queue)


def serve_work() -> None:
    """Stages, plans and statuses."""
    _warm_up()
    queue = Queue(WORK_QUEUE, connection=application().redis, serializer=JSONSerializer)
    worker = StageWorker([queue], connection=application().redis, serializer=JSONSerializer)
    worker.work(logging_level="WARNING")


def serve_provider(name: str) -> None:
    """Everything that one provider is asked, over connections that stay open."""
    application().provider(name)
    queue = Queue(provider_queue(name), connection=application().redis, serializer=JSONSerializer)
    worker = SimpleWorker([queue], connection=application().redis, serializer=JSONSerializer)
    worker.work(logging_level="WARNING")


def _warm_up() -> None:
    """Import and build before the first fork, so that no work-horse pays for it; what is connected closes again."""
    app = application()
    _ = (app.planner, app.statuses, app.tools, app.lifecycle)
    app.redis.connection_pool.disconnect()
