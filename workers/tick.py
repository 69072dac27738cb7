"""The tick process: one leads, others stand by."""

from __future__ import annotations

import logging
import os
import signal
import socket
from types import FrameType

from pipeline.bootstrap import Application
from pipeline.domain.durations import passed
from pipeline.domain.errors import Fenced, TransientError, UserError
from pipeline.ports.stores import Fence

log = logging.getLogger(__name__)
OFFICE = "tick"
#: A leader that gives no sign for so long is replaced, in seconds.
OFFICE_TTL_S = 5.0
STANDBY_S = 1.0


class TickProcess:
    """Leads while it can; ends at SIGTERM after giving the office back."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self._holder = f"{socket.gethostname()}.{os.getpid()}.{app.ids.token()[:8]}"
        self._ending = False

    def run(self) -> None:
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGINT, self._end)
        while not self._ending:
            try:
                self._stand_or_lead()
            except TransientError as error:
                log.warning("%s; trying again", error)
                self._app.clock.sleep(STANDBY_S)

    def _stand_or_lead(self) -> None:
        fence = self._app.store.acquire(OFFICE, self._holder, OFFICE_TTL_S)
        if fence is None:
            self._app.clock.sleep(STANDBY_S)
            return
        log.info("leading in epoch %d", fence.epoch)
        try:
            self._lead(fence)
        except Fenced:
            log.warning("lost the office in epoch %d", fence.epoch)
        else:
            self._app.store.release(fence, self._holder)

    def _lead(self, fence: Fence) -> None:
        try:
            self._app.sync_inventories()
        except UserError as error:
            log.error("the inventories stay as they were: %s", error)
        renewed_at = self._app.clock.now()
        while not self._ending:
            self._app.tick.step(fence)
            if passed(renewed_at, self._app.clock.now(), OFFICE_TTL_S / 5):
                renewed_at = self._app.clock.now()
                if not self._app.store.renew(fence, self._holder, OFFICE_TTL_S):
                    raise Fenced("the office ended before it was renewed")

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True
