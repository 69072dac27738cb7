"""Where an environment goes whose nodes failed: elsewhere, unless there is no other place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.envs.books import Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.preemption import Preemptions
from pipeline.envs.providers import Provider
from pipeline.envs.scheduler import AVOID_S, Scheduler
from tests.tools.requests import SINGLE, ask, provider, requested


class Lab:
    """A provider with machines for one small node each."""

    def __init__(self, *machines: str) -> None:
        self.clock = ManualClock()
        self.books = Books(MemoryStore(self.clock))
        gate = Gate(self.books, self.clock)
        self.inventories = Inventories(self.books, self.clock, gate)
        declared = tuple(Machine(name, "z", {"vcpu": 1.0}) for name in machines)
        self.inventories.sync("lab", Inventory(declared, (Zone("z"),)))
        self.lab: Provider = provider("lab", self.clock)
        preemptions = Preemptions(self.books, gate)
        self.scheduler = Scheduler(self.books, lambda _: self.lab, self.inventories, preemptions, self.clock)

    def ask(self, id: str, *avoid: str) -> None:
        ask(self.books, [replace(requested(id, SINGLE, "lab", self.clock.now()), avoid=avoid)])

    def reserve(self, id: str) -> Environment:
        self.scheduler.reserve(None)
        return self.books.environments.get(id).value


@pytest.mark.parametrize("avoid", [("m1",), ("m1", "m2")])
def test_it_goes_where_it_did_not_fail(avoid: tuple[str, ...]) -> None:
    lab = Lab("m1", "m2", "m3")
    lab.ask("env-1", *avoid)
    placed = lab.reserve("env-1")
    assert placed.state is EnvironmentState.RESERVED
    assert placed.nodes[0].machine not in avoid


def test_where_it_failed_everywhere_it_goes_anywhere_at_once() -> None:
    lab = Lab("m1", "m2")
    lab.ask("env-1", "m1", "m2")
    assert lab.reserve("env-1").state is EnvironmentState.RESERVED


def test_machines_that_are_not_there_any_more_are_in_no_ones_way() -> None:
    lab = Lab("m1")
    lab.ask("env-1", "m7")
    assert lab.reserve("env-1").nodes[0].machine == "m1"


def test_it_waits_for_room_elsewhere_says_so_and_goes_back_in_the_end() -> None:
    lab = Lab("m1", "m2")
    lab.ask("env-1", "m1")
    assert lab.reserve("env-1").nodes[0].machine == "m2"
    lab.ask("env-2", "m1")
    waiting = lab.reserve("env-2")
    assert waiting.state is EnvironmentState.REQUESTED
    assert "forbid machine m1 (it failed there)" in waiting.reason
    lab.clock.sleep(AVOID_S + 1)
    assert lab.reserve("env-2").nodes[0].machine == "m1"


def test_on_probation_a_machine_takes_one_build_at_a_time() -> None:
    lab = Lab()
    wide = Inventory((Machine("m1", "z", {"vcpu": 9.0}), Machine("m2", "z", {"vcpu": 0.0})), (Zone("z"),))
    lab.inventories.sync("lab", wide)
    lab.inventories.quarantine("lab", "m1", Asking("tick", "3 of its last 3 builds failed"))
    lab.ask("env-1")
    assert lab.reserve("env-1").state is EnvironmentState.REQUESTED
    lab.clock.sleep(3600)
    lab.inventories.end_quarantines(Asking("tick", "over"))
    assert lab.reserve("env-1").state is EnvironmentState.RESERVED
    lab.ask("env-2")
    second = lab.reserve("env-2")
    assert second.state is EnvironmentState.REQUESTED
    assert "as many builds at a time as it takes" in second.reason
    lab.inventories.end_probations("lab", ["m1"], Asking("tick", "a build on it succeeded"))
    assert lab.reserve("env-2").state is EnvironmentState.RESERVED
