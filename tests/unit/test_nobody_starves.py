"""Nobody starves: whole histories of the real scheduler, with arrivals of every priority, project and size."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain import admission
from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.inventory import Inventory, Machine, MachineState, Zone
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.rules import PlacementRules, Spread
from pipeline.envs.books import ENVIRONMENTS, Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from tests.tools.requests import ask, provider, requested

E = EnvironmentState
#: Seconds: the real ones are thirty times as long.
AGING_S, OVERTAKE_S, LASTS_S, STEP_S = 60.0, 4.0, 20.0, 4.0
#: One more than the ranks that lie between nightly and interactive.
RANKS = 3


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "AGING_S", AGING_S)
    monkeypatch.setattr(admission, "OVERTAKE_S", OVERTAKE_S)


def machines(count: int = 4, **changes: object) -> Inventory:
    """Machines that take four `small` nodes each, in two zones."""
    capacity = {"vcpu": 4.0, "memory_mib": 2048.0, "disk_gib": 20.0}
    every = tuple(Machine(f"m{at}", f"z{at % 2}", capacity) for at in range(count))
    return replace(Inventory(every, (Zone("z0"), Zone("z1"))), **changes)  # type: ignore[arg-type]  # by name


def nodes(count: int, spread: Spread = Spread.NONE, qos: QosProfile | None = None) -> EnvironmentSpec:
    role = RoleSpec("web", count=count, size="small", rules=PlacementRules(spread=spread), qos=qos or QosProfile())
    return EnvironmentSpec("debian-12", (role,))


@dataclass
class History:
    """A scheduler, and environments that last for a while once they were placed."""

    inventory: Inventory = field(default_factory=machines)
    asked: dict[str, Environment] = field(default_factory=dict)
    placed: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.books = Books(MemoryStore(self.clock))
        gate = Gate(self.books, self.clock)
        self.inventories = Inventories(self.books, self.clock, gate)
        self.inventories.sync("lab", self.inventory)
        account = provider("lab", self.clock)
        preemptions = Preemptions(self.books, gate)
        self.scheduler = Scheduler(self.books, lambda _: account, self.inventories, preemptions, self.clock)
        self.ends: dict[str, float] = {}

    def ask(self, spec: EnvironmentSpec, priority: Priority, project: str) -> str:
        id = f"env-{len(self.asked):04}"
        one = replace(requested(id, spec, "lab", self.clock.now(), project), priority=priority)
        ask(self.books, [one])
        self.asked[id] = one
        return id

    def step(self, lasts_s: float = LASTS_S) -> list[str]:
        """Let what has ended go, then let the scheduler look once; what it placed."""
        self.clock.sleep(STEP_S)
        now = self.clock.now()
        for id in [id for id, at in self.ends.items() if at <= now]:
            self._end(id)
        self.scheduler.reserve(None)
        waiting = [id for id in self.asked if id not in self.placed]
        new = [one.value.id for one in self.books.environments.many(waiting) if one.value.state is not E.REQUESTED]
        for id in new:
            self.placed[id] = now
            self.ends[id] = now + lasts_s
        return new

    def _end(self, id: str) -> None:
        loaded = self.books.environments.get(id)
        gone = replace(loaded.value, state=E.DESTROYED, nodes=())
        self.books.commit(ENVIRONMENTS.put(id, gone, loaded.version))
        del self.ends[id]

    def waits(self, id: str) -> float:
        return self.placed.get(id, self.clock.now()) - self.asked[id].created_at

    def waiting(self) -> Iterator[Environment]:
        return (one for id, one in self.asked.items() if id not in self.placed)


@settings(deadline=None, max_examples=6)
@given(st.integers(0, 10**9))
def test_every_request_that_fits_is_placed_in_bounded_time(seed: int) -> None:
    """No newcomer is placed before one that is older by more than what its priority is worth; all find a place."""
    dice, history = random.Random(seed), History()
    for _ in range(60):
        _arrivals(dice, history)
        for new in history.step(dice.choice([4.0, LASTS_S])):
            born = history.asked[new].created_at
            worst = min((one.created_at for one in history.waiting()), default=born)
            assert born - worst < RANKS * AGING_S, f"{new} went before one that is {born - worst:.0f} s older"
    for _ in range(400):
        if len(history.placed) == len(history.asked):
            return
        history.step()
    raise AssertionError(f"{len(list(history.waiting()))} of {len(history.asked)} never found a place")


def _arrivals(dice: random.Random, history: History) -> None:
    """About as much as the machines can bear; now and then as much as all of them have."""
    for _ in range(dice.choice([0, 1, 1, 2])):
        priority = dice.choice([Priority.INTERACTIVE, Priority.INTERACTIVE, Priority.PUSH, Priority.NIGHTLY])
        count = dice.choice([1, 1, 1, 1, 2, 4]) if dice.random() < 0.97 else 16
        history.ask(nodes(count, dice.choice([Spread.NONE, Spread.MACHINE])), priority, f"p{dice.randrange(5)}")


@pytest.mark.parametrize("priority", list(Priority))
def test_a_large_request_is_placed_among_endless_small_ones_of_ever_new_projects(priority: Priority) -> None:
    """Its own project has something already, so that each newcomer has less of its share."""
    history = History()
    for _ in range(4):
        history.ask(nodes(1), Priority.INTERACTIVE, "large")
    history.step(lasts_s=1e9)
    large = history.ask(nodes(12), priority, "large")
    most = (RANKS + admission.MOST_BEYOND) * AGING_S + LASTS_S + 2 * STEP_S
    while large not in history.placed and history.waits(large) <= most:
        for number in range(2):
            history.ask(nodes(1), Priority.INTERACTIVE, f"small-{history.waits(large)}-{number}")
        history.step()
    assert large in history.placed, f"it waits for {history.waits(large):.0f} s"


def test_a_request_that_even_empty_machines_would_not_take_holds_nobody_back() -> None:
    """It is not proved that it never fits; but to keep machines empty for it would be in vain."""
    firm = QosProfile(qos_class=QosClass.GUARANTEED)
    history = History(machines(2, spare_zones=frozenset({QosClass.GUARANTEED})))
    hopeless = history.ask(nodes(6, qos=firm), Priority.INTERACTIVE, "hopeless")
    for _ in range(5):
        history.step()
    small = history.ask(nodes(1), Priority.PUSH, "small")
    history.step()
    assert hopeless not in history.placed
    assert small in history.placed


def test_a_request_that_needs_a_machine_which_is_down_holds_nobody_back() -> None:
    history = History()
    for name in ("m0", "m1"):
        history.inventories.set_state("lab", name, MachineState.DOWN, Asking("me", "its power supply failed"))
    large = history.ask(nodes(12), Priority.INTERACTIVE, "large")
    for _ in range(5):
        history.step()
    small = history.ask(nodes(1), Priority.NIGHTLY, "small")
    history.step()
    assert large not in history.placed
    assert small in history.placed
