"""Registered machines for tests: entries in memory, or local nodes that pose as physical machines."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.drivers.static.driver import StaticDriver
from pipeline.adapters.drivers.static.hands import SshHands
from pipeline.adapters.drivers.static.memory import MemoryHands, MemoryMachines
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.adapters.transports.openssh import OpenSshTransport
from pipeline.domain.registered import Login, Registered, Use
from pipeline.envs.books import REGISTERED, Books
from pipeline.envs.care import Care
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.registry import Registry
from pipeline.envs.stocks import BookedStock
from pipeline.ports.common import Clock
from pipeline.ports.machines import MachineHands
from tests.plugins.local_nodes import LocalNodes

PROVIDER, IMAGE, OURS = "metal", "debian-12", "ours"
ASKING = Asking("tester", "for a test")


def registered(name: str, login: Login | None = None, *, reset: str = "true", zone: str = "rack-a") -> Registered:
    """A free machine."""
    login = login or Login(name, "ssh-ed25519 AAAA")
    return Registered(PROVIDER, name, login, zone, reset, images=frozenset({IMAGE}), use=Use.FREE)


@dataclass
class Metal:
    """A provider of registered machines, with books of its own."""

    hands: MachineHands
    clock: Clock = field(default_factory=SystemClock)
    machines: MemoryMachines = field(default_factory=MemoryMachines)

    def __post_init__(self) -> None:
        self.store = MemoryStore(self.clock)
        self.books = Books(self.store)
        self.gate = Gate(self.books, self.clock)
        self.inventories = Inventories(self.books, self.clock, self.gate)
        self.stock = BookedStock(PROVIDER, self.books, self.inventories, self.clock)
        self.care = Care(self.books, lambda _: self.stock, self.hands, OURS, self.clock)
        self.registry = Registry(
            self.books, lambda _: self.stock, self.hands, self.inventories, self.gate, OURS, self.clock, (PROVIDER,)
        )

    def driver(self, deployment: str = OURS) -> StaticDriver:
        return StaticDriver(deployment, self.stock, self.hands)

    def stand(self, *machines: Registered) -> None:
        """Let these be registered as they are."""
        self.books.commit(*(REGISTERED.put(one.id, one, 0) for one in machines))
        self.stock.take_over()

    def get(self, name: str) -> Registered:
        return self.stock.get(name).value

    def clean(self) -> None:
        """Clean all that is dirty, as the workers would."""
        for one in self.stock.machines():
            if one.use is Use.DIRTY:
                self.care.clean(PROVIDER, one.name)


def in_memory(count: int, clock: Clock | None = None) -> Metal:
    """So many free machines `m1`, `m2`…, of which nothing but entries exists."""
    machines = MemoryMachines()
    metal = Metal(MemoryHands(machines, OURS), clock or SystemClock(), machines)
    metal.stand(*(registered(f"m{number}") for number in range(1, count + 1)))
    return metal


@contextmanager
def posing(local_nodes: LocalNodes, count: int) -> Iterator[tuple[Metal, tuple[Registered, ...]]]:
    """Local nodes that pose as so many machines, none of them registered yet; they are gone afterwards."""
    names = [f"m{number}-0" for number in range(1, count + 1)]
    with local_nodes.environment(*names) as access, tempfile.TemporaryDirectory(prefix="gr-") as place:
        transport = OpenSshTransport(str(Path(place) / "ssh"))
        keys = local_nodes.keys
        metal = Metal(SshHands(OURS, transport, keys.login, keys.login_public))
        logins = [Login(node.address, " ".join(node.host_public_key.split()[:2])) for node in access.nodes]
        ours = [registered(name.partition("-")[0], login) for name, login in zip(names, logins, strict=True)]
        try:
            yield metal, tuple(replace(one, use=Use.DIRTY) for one in ours)
        finally:
            transport.close_all()
