"""`python -m tests.standins.slow_worker work | provider NAME`: a worker whose memory nodes can be slow for once.

A file `slow-PLACE` in the home lets the next command at that place take `SLOW_S`, after `in-PLACE` was made. Places:
`configure`, `deploy`, `test` (commands on nodes), `create` and `destroy` (calls of the driver).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from pipeline.adapters.drivers.memory import MemoryDriver
from pipeline.adapters.transports.memory import Call, MemoryTransport
from pipeline.envs.calls import WatchedDriver
from pipeline.ports.drivers import EnvironmentRequest
from workers.__main__ import main
from workers.tasks import application

#: Longer than any test waits.
SLOW_S = 60.0
#: A part of a command, and the place it is.
COMMANDS = {"exec ./script": "configure", "current.new": "release", "./migrate": "deploy", "./check": "test"}


def dawdle(home: Path, place: str) -> None:
    """Take long once, if a file asks for it."""
    slow = home / f"slow-{place}"
    if slow.exists():
        slow.unlink()
        (home / f"in-{place}").touch()
        time.sleep(SLOW_S)


def answer(home: Path, call: Call) -> int | None:
    """Succeed at what the tests' repositories ask for."""
    for part, place in COMMANDS.items():
        if part in call.command:
            dawdle(home, place)
            return 0
    return None


class SlowDriver(MemoryDriver):
    """A memory driver whose calls may take long."""

    dawdle: Callable[[str], None]

    def create(self, request: EnvironmentRequest) -> None:
        self.dawdle("create")
        super().create(request)

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        self.dawdle("destroy")
        super().destroy(environment_id, nodes)


def prepare() -> None:
    app = application()
    provider = app.provider("memory")
    assert isinstance(provider.transport, MemoryTransport)
    assert isinstance(provider.driver, WatchedDriver)
    driver = provider.driver.driver
    provider.transport.handlers.append(partial(answer, app.settings.home))
    driver.__class__ = SlowDriver
    assert isinstance(driver, SlowDriver)
    driver.dawdle = partial(dawdle, app.settings.home)


if __name__ == "__main__":
    prepare()
    sys.exit(main(sys.argv[1:]))
