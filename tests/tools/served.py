"""A live slot whose nodes answer requests on loopback, behind a real router: real books, real rounds, memory driver.

A node's server starts when the driver makes the node, and is killed when the driver takes it away.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.adapters.routers.haproxy import HaproxyRouter
from pipeline.domain.environments import Environment
from pipeline.domain.stagings import Activity, SlotName, StagingSpec
from pipeline.envs.gate import Asking
from pipeline.ports.drivers import NodeView
from tests.scenarios.player import usual_world
from tests.scenarios.test_stagings import commit
from tests.scenarios.world import World

NAME, HOST = "front", "front.test.example"
ASKING = Asking("bench", "measured")
#: Between two rounds, and what may be waited for, in seconds.
ROUND_S, PATIENCE_S = 0.1, 90.0


class Servers(dict[tuple[str, str], NodeView]):
    """The nodes of a cloud, each with a server at an address of its own; `port` is the same of all.

    Its answers carry the name of its node, or of its `environment`.
    """

    def __init__(self, port: int, *, environment: bool = False) -> None:
        super().__init__()
        self.port = port
        self._says = 0 if environment else 1
        self._made = 0
        self._running: dict[tuple[str, str], subprocess.Popen[bytes]] = {}

    def __setitem__(self, key: tuple[str, str], view: NodeView) -> None:
        if key not in self:
            self._made += 1
            view = replace(view, address=f"127.0.3.{self._made}")
            argv = [sys.executable, "-m", "tests.bench.slot_server", key[self._says], str(view.address), str(self.port)]
            self._running[key] = subprocess.Popen(argv)
        super().__setitem__(key, view)

    def __delitem__(self, key: tuple[str, str]) -> None:
        super().__delitem__(key)
        server = self._running.pop(key)
        server.kill()
        server.wait()


@dataclass
class Going:
    """A world whose clock goes with the real one."""

    world: World
    _at: float = field(default_factory=time.monotonic, kw_only=True)

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() >= end)

    def until(self, told: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not told():
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not come to rest: {self.world.all_environments()}")
            time.sleep(ROUND_S)
            moment, self._at = self._at, time.monotonic()
            self.world.clock.sleep(self._at - moment)
            self.world.settle()


@dataclass
class Served(Going):
    """One live slot."""

    router: HaproxyRouter

    @property
    def environment(self) -> Environment:
        staging = self.world.stagings.get(NAME)
        return self.world.books.environments.get(staging.slot(SlotName.BLUE).environment).value

    def scale(self, count: int) -> float:
        """Bring the role to so many nodes, all of which answer; the seconds that it took."""
        began = time.monotonic()
        self.world.scale.scale(self.environment.id, "web", count, ASKING)
        self.until(lambda: self._rests(count))
        return time.monotonic() - began

    def _rests(self, count: int) -> bool:
        up = self.router.reading(self.environment.id).up
        return self.environment.scaling is None and len(self.environment.nodes) == count == up


@contextmanager
def served(router: HaproxyRouter, scratch: Path, port: int, drain_s: float) -> Iterator[Served]:
    """A slot of one node that is live at `HOST`; twelve machines have room for one node each."""
    world = usual_world(scratch, front=router, machines=12)
    servers = Servers(port)
    world.cloud.nodes = servers
    try:
        made = Served(world, router)
        commit(world, "v1")
        spec = StagingSpec("shop", HOST, "web", port, health="/health", watch_s=0.5, drain_s=drain_s)
        world.stagings.put(NAME, spec)
        world.stagings.deploy(NAME, "v1", ASKING)
        made.until(lambda: made.world.stagings.get(NAME).blue.passed_at > 0)
        world.stagings.promote(NAME, ASKING)
        made.until(lambda: _is_live(world))
        yield made
    finally:
        for key in list(servers):
            del servers[key]


def _is_live(world: World) -> bool:
    staging = world.stagings.get(NAME)
    return staging.live is SlotName.BLUE and staging.activity is Activity.IDLE
