"""A live slot whose nodes answer requests on loopback, behind a real router: real books, real rounds, memory driver.

A node's server starts when the driver makes the node, and is killed when the driver takes it away.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.adapters.routers.haproxy import HaproxyRouter
from pipeline.domain.environments import Environment
from pipeline.domain.stagings import Activity, SlotName, StagingSpec
from pipeline.envs.gate import Asking
from pipeline.ports.drivers import NodeView
from pipeline.ports.machines import Marks
from pipeline.stages.moving import MoveWish
from tests.scenarios.player import usual_world
from tests.scenarios.test_stagings import commit
from tests.scenarios.world import World

NAME, HOST = "front", "front.test.example"
ASKING = Asking("bench", "measured")
#: Between two rounds, and what may be waited for, in seconds.
ROUND_S, PATIENCE_S = 0.1, 90.0
#: Where registered machines pose, and how long old nodes of a moved role stand, in seconds.
METAL, KEEP_S = "127.0.4", 3.0


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


class Posing(dict[str, Marks]):
    """What registered machines say of themselves; one that is leased has a server, at `METAL` and its number."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __setitem__(self, name: str, marks: Marks) -> None:
        super().__setitem__(name, marks)
        if marks.environment and name not in self._running:
            argv = [sys.executable, "-m", "tests.bench.slot_server", name, f"{METAL}.{name[1:]}", str(self._port)]
            self._running[name] = subprocess.Popen(argv)
        elif not marks.environment and name in self._running:
            self._end(name)

    def end_all(self) -> None:
        for name in list(self._running):
            self._end(name)

    def _end(self, name: str) -> None:
        server = self._running.pop(name)
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
    drain_s: float

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

    def move(self, to: str) -> float:
        """Bring the role to other machines, where all its nodes answer; the seconds that it took."""
        began, count = time.monotonic(), len(self.environment.nodes)
        self.world.moving.move(self.environment.id, MoveWish("web", to, self.drain_s, KEEP_S), ASKING)
        self.until(lambda: self._rests(count))
        return time.monotonic() - began

    def kinds(self) -> Sequence[str]:
        """The kinds of machines that its nodes stand on."""
        machines = {one.name: str(one.kind) for one in self.world.inventories.view("cloud").inventory.machines}
        return sorted({machines[node.machine] for node in self.environment.nodes})

    def _rests(self, count: int) -> bool:
        up = self.router.reading(self.environment.id).up
        return self.environment.scaling is None and len(self.environment.nodes) == count == up


@contextmanager
def served(router: HaproxyRouter, scratch: Path, port: int, drain_s: float, registered: int = 0) -> Iterator[Served]:
    """A slot of one node that is live at `HOST`; twelve machines have room for one node each, and bare metal may be."""
    world = usual_world(scratch, front=router, machines=12, registered=registered, metal=METAL)
    servers, posing = Servers(port), Posing(port)
    world.cloud.nodes, world.machines.marks = servers, posing
    try:
        made = Served(world, router, drain_s)
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
        posing.end_all()


def _is_live(world: World) -> bool:
    staging = world.stagings.get(NAME)
    return staging.live is SlotName.BLUE and staging.activity is Activity.IDLE
