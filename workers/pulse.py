"""The sign of life of a worker, and its end when its attempt was given to somebody else."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipeline.domain.errors import InfraError
from pipeline.domain.runs import StageName
from pipeline.envs.books import Books
from pipeline.stages.runner import BEAT_TTL_S, Pulse

log = logging.getLogger(__name__)
BEAT_S = BEAT_TTL_S / 6


class AttemptRevoked(BaseException):
    """The attempt is somebody else's; not an Exception, so that no handler takes it for a failure of the stage."""


def keep_alive(books: Books) -> Pulse:
    """A pulse for forking workers: beats from a thread, and interrupts the main thread when the attempt was revoked."""

    @contextmanager
    def pulse(run_id: str, stage: StageName, token: str) -> Iterator[None]:
        stop = threading.Event()
        previous = signal.signal(signal.SIGUSR1, _revoked)
        thread = threading.Thread(target=_beat, args=(books, run_id, stage, token, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            signal.signal(signal.SIGUSR1, previous)

    return pulse


def _revoked(_number: int, _frame: FrameType | None) -> None:
    raise AttemptRevoked


def _beat(books: Books, run_id: str, stage: StageName, token: str, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        try:
            books.store.beat(token, BEAT_TTL_S)
            revoked = not _holds(books, run_id, stage, token)
        except InfraError as error:
            log.warning("run %s: no sign of life could be given: %s", run_id, error)
            continue
        if revoked and not stop.is_set():
            os.kill(os.getpid(), signal.SIGUSR1)
            return


def _holds(books: Books, run_id: str, stage: StageName, token: str) -> bool:
    attempt = books.runs.get(run_id).value.stage(stage).current
    return attempt is not None and attempt.token == token
