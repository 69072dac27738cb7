"""One provider with everything that places and builds, on the in-memory twins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.drivers.memory import MemoryCloud, MemoryDriver
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.memory import MemoryTransport
from pipeline.domain.blueprint import EnvironmentSpec
from pipeline.domain.environments import Environment
from pipeline.domain.inventory import Inventory, LoadLimits, Machine, Zone
from pipeline.domain.rules import OperatorRule
from pipeline.envs.books import Books
from pipeline.envs.gate import Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals
from pipeline.envs.scheduler import Scheduler
from pipeline.ports.stores import Commit
from tests.scenarios.world import ClearSecrets
from tests.tools.lifecycles import lifecycle_of
from tests.tools.requests import SINGLE, ask, requested


class Interrupted(MemoryStore):
    """Lets something happen once, right before the next write of reservations."""

    before: Callable[[], object] | None = None

    def commit(self, commit: Commit) -> None:
        reserves = any(put.body.get("state") == "reserved" for put in commit.writes if hasattr(put, "body"))
        act, self.before = self.before, None if reserves else self.before
        if act is not None and self.before is None:
            act()
        super().commit(commit)


@dataclass
class Lab:
    """One provider with everything that places and builds."""

    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.store = Interrupted(self.clock)
        self.books = Books(self.store)
        gate = Gate(self.books, self.clock)
        self.inventories = Inventories(self.books, self.clock, gate)
        self.cloud = MemoryCloud()
        driver = MemoryDriver(self.cloud, "test", images=("debian-12",))
        self.transport = MemoryTransport(self.clock)
        self.secrets = ClearSecrets()
        self.account = account = Provider("lab", driver, self.transport)
        self.scheduler = Scheduler(
            self.books, lambda _: account, self.inventories, Preemptions(self.books, gate), self.clock
        )
        removals = Removals(self.books, gate, self.clock)
        self.lifecycle = lifecycle_of(account, self.books, removals, self.inventories, self.clock, self.secrets, "test")

    def declare(
        self,
        *machines: Machine,
        rules: Sequence[OperatorRule] = (),
        limits: LoadLimits | None = None,
        **uplinks: float,
    ) -> None:
        zones = tuple(Zone(name, "r", uplinks.get(name), uplinks.get(name)) for name in ("z1", "z2"))
        self.inventories.sync("lab", Inventory(machines, zones, rules=tuple(rules), limits=limits))

    def request(self, spec: EnvironmentSpec = SINGLE, id: str = "env-1") -> None:
        ask(self.books, [requested(id, spec, "lab", self.clock.now())])

    def environment(self, id: str = "env-1") -> Environment:
        return self.books.environments.get(id).value

    def on(self, id: str = "env-1") -> list[str]:
        return [node.machine for node in self.environment(id).nodes]

    def place(self, spec: EnvironmentSpec = SINGLE, id: str = "env-1") -> list[str]:
        self.request(spec, id)
        self.scheduler.reserve(None)
        return self.on(id)
