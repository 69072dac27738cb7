"""Machines above their drain limit give best-effort environments back, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone
from pipeline.domain.preemption import GRACE_S
from pipeline.domain.runs import Verdict
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

LIMITS = LoadLimits(full={"vcpu": 0.8}, drain={"vcpu": 0.9}, stale_s=1e6, ramp_s=0.0)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two machines that measure, and nodes that do what the usual run asks of them."""
    world = World(str(tmp_path))
    world.program(r"\./(migrate|check)", lambda _: 0)
    world.project("shop")
    machines = tuple(Machine(f"m{at}", "z", {"vcpu": 4.0, "memory_mib": 8192.0}) for at in range(2))
    world.inventories.sync("cloud", Inventory(machines, (Zone("z"),), limits=LIMITS))
    measure(world, m0=0.1, m1=0.1)
    return world


def measure(world: World, **vcpu: float) -> None:
    world.inventories.report_loads(
        "cloud", {name: Load(world.clock.now(), {"vcpu": share}) for name, share in vcpu.items()}
    )


def lease(world: World, class_: str) -> Environment:
    """An environment of one node that is in use: its run waits to be taken up by a worker."""
    roles: dict[str, Any] = {"web": {"script": "setup.sh", "qos": {"class": class_}}}
    before = len(world.all_environments())
    world.push("shop", {**USUAL, "environment": {"image": "debian-12", "roles": roles}}, branch=f"b{world.clock.now()}")
    world.clock.sleep(1)
    for _ in range(50):
        world.tick.step(world.fence)
        job = world.queue.take()
        for newest in world.all_environments()[before:]:
            if newest.state is EnvironmentState.LEASED:
                return newest
        if job is not None:
            world._do(job)
    raise AssertionError("it was never leased")


def told(world: World) -> list[str]:
    return [one.id for one in world.all_environments() if one.notice is not None]


def test_a_machine_above_its_drain_limit_gives_the_best_effort_one_back(world: World) -> None:
    firm, modest = lease(world, "burstable"), lease(world, "best-effort")
    machine = modest.nodes[0].machine
    assert firm.nodes[0].machine == machine, "packed"
    world.clock.sleep(5)
    measure(world, **{machine: 0.95})
    assert world.tick.relief.relieve("cloud") == [modest.id]
    assert told(world) == [modest.id]
    assert world.tick.relief.relieve("cloud") == [], "what was told to go counts as gone"
    notice = world.books.environments.get(modest.id).value.notice
    assert notice is not None
    assert notice.reason == f"machine {machine}: measured vcpu 0.95 is above its drain limit 0.9"
    audit = [event.data["target"] for event in world.store.events("audit") if event.type == "audit.preempt"]
    assert audit == [modest.id]


def test_the_run_of_what_was_given_back_begins_again(world: World) -> None:
    modest = lease(world, "best-effort")
    world.clock.sleep(5)
    measure(world, **{modest.nodes[0].machine: 0.95})
    world.tick.relief.relieve("cloud")
    world.clock.sleep(GRACE_S + 1)
    world.tick.preempted.settle(modest.id)
    assert world.books.environments.get(modest.id).value.state is EnvironmentState.DESTROYING
    measure(world, m0=0.1, m1=0.1)
    world.settle()
    world.advance(10)
    (run,) = world.all_runs()
    assert (run.verdict, run.preempted) == (Verdict.PASSED, 1)


@pytest.mark.parametrize("share", [0.85, 0.9])
def test_nothing_goes_below_the_limit(world: World, share: float) -> None:
    modest = lease(world, "best-effort")
    world.clock.sleep(5)
    measure(world, **{modest.nodes[0].machine: share})
    assert world.tick.relief.relieve("cloud") == []


@pytest.mark.parametrize("class_", ["burstable", "guaranteed"])
def test_what_was_promised_more_stays(world: World, class_: str) -> None:
    firm = lease(world, class_)
    world.clock.sleep(5)
    measure(world, **{firm.nodes[0].machine: 0.99})
    assert world.tick.relief.relieve("cloud") == []
    assert told(world) == []
