"""The tick process: one leads, others stand by."""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Iterable
from types import FrameType

from pipeline.bootstrap import Application
from pipeline.domain.durations import passed
from pipeline.domain.errors import Fenced, PermanentError, TransientError, UserError
from pipeline.ports.stores import Fence

log = logging.getLogger(__name__)
OFFICE = "tick"
#: A leader that gives no sign for so long is replaced, in seconds.
OFFICE_TTL_S = 5.0
STANDBY_S = 1.0
#: Until an inventory that could not be had is asked for again, in seconds.
SYNC_S = 5.0


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
        left, tried_at = take_over(self._app, self._app.settings.providers), self._app.clock.now()
        renewed_at = tried_at
        while not self._ending:
            self._app.tick.step(fence)
            if left and passed(tried_at, self._app.clock.now(), SYNC_S):
                left, tried_at = take_over(self._app, left), self._app.clock.now()
            if passed(renewed_at, self._app.clock.now(), OFFICE_TTL_S / 5):
                renewed_at = self._app.clock.now()
                if not self._app.store.renew(fence, self._holder, OFFICE_TTL_S):
                    raise Fenced("the office ended before it was renewed")

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._ending = True


def take_over(app: Application, providers: Iterable[str]) -> list[str]:
    """Take over what is declared or reported of each provider's machines; those that could not be asked now."""
    left = []
    for name in providers:
        try:
            app.sync_inventory(name)
        except (UserError, PermanentError) as error:
            log.error("the inventory of provider %s stays as it was: %s", name, error)
        except TransientError as error:
            log.warning("the inventory of provider %s is taken over later: %s", name, error)
            left.append(name)
    return left
