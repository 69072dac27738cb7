"""A clock that jumps: never a wrong placement, no exception, and nobody waits for the old time to come again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.domain.admission import Waiting, in_turn, rank
from pipeline.domain.blueprint import Priority
from pipeline.domain.breakers import Breaker, BreakerState, failed, may_call
from pipeline.domain.durations import SKEW_S, passed
from pipeline.domain.environments import EnvironmentState, Node, under_clock
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, MachineState, Zone
from pipeline.domain.overload import relieving
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.qos import PROFILES
from pipeline.domain.resources import SIZES
from pipeline.domain.runs import Verdict
from pipeline.domain.suspicion import Build, History, Judgement, judge, remember
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.stores import Put
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World
from tests.tools.lab import Lab
from tests.tools.requests import SINGLE, requested

E = EnvironmentState
DAY = 86400.0
NOW = 1_700_000_000.0
LIMITS = LoadLimits({"vcpu": 0.9}, stale_s=60.0)
JUMPS = st.lists(st.sampled_from([0.5, 3.0, 59.0, 61.0, 3600.0, DAY, -0.5, -3.0, -61.0, -3600.0, -DAY]), max_size=12)


@pytest.mark.parametrize(
    ("since", "seconds", "answer"),
    [(NOW, 2, False), (NOW - 1, 2, False), (NOW - 2, 2, True), (NOW - DAY, 2, True), (NOW + 1, 2, True)],
)
def test_a_moment_to_come_counts_as_long_past(since: float, seconds: float, answer: bool) -> None:
    assert passed(since, NOW, seconds) is answer


def measured(*at: float) -> Fleet:
    machines = tuple(Machine(f"m{number}", "z", {"vcpu": 8.0}) for number in range(len(at)))
    fleet = Fleet(Inventory(machines, (Zone("z"),), limits=LIMITS))
    fleet.set_loads({f"m{number}": Load(moment, {"vcpu": 0.1}) for number, moment in enumerate(at)})
    return fleet


@example(jumps=[-66.0, 61.0], ages=[0.0])
@example(jumps=[-3.0, -61.0, 59.0], ages=[0.0])
@given(jumps=JUMPS, ages=st.lists(st.floats(-200, 200), min_size=1, max_size=5))
def test_only_what_was_measured_lately_counts_however_the_clock_jumps(jumps: list[float], ages: list[float]) -> None:
    now = NOW
    at = np.array([now - age for age in ages])
    fleet = measured(*at.tolist())
    for jump in [0.0, *jumps]:
        now += jump
        fleet.age(now)
        assert fleet.stale.tolist() == ((now - at > LIMITS.stale_s) | (at - now > SKEW_S)).tolist()


@given(jumps=JUMPS, ages=st.lists(st.floats(-DAY, DAY), max_size=8))
def test_turns_are_taken_at_any_time(jumps: list[float], ages: list[float]) -> None:
    waiting = [
        Waiting(f"env-{number}", "shop", list(Priority)[number % 3], NOW - age) for number, age in enumerate(ages)
    ]
    now = NOW
    for jump in [0.0, *jumps]:
        now += jump
        assert all(rank(one, now) <= 2 for one in waiting)
        assert sorted(one.id for one in in_turn(waiting, lambda _: 0.0, now)) == [one.id for one in waiting]


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.declare(Machine("m1", "z1", {"vcpu": 4.0}), Machine("m2", "z2", {"vcpu": 4.0}), limits=LIMITS)
    return lab


def report(lab: Lab, *machines: str) -> None:
    lab.inventories.report_loads("lab", {name: Load(lab.clock.now(), {"vcpu": 0.1}) for name in machines})


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_a_jump_makes_measurements_stale_and_the_next_ones_good(lab: Lab, jump: float) -> None:
    report(lab, "m1", "m2")
    assert lab.place(id="env-before") != [""]
    lab.clock.sleep(jump)
    assert lab.place() == [""]
    assert "not measured lately" in lab.environment().reason
    lab.clock.sleep(3.0)
    report(lab, "m2")
    lab.scheduler.reserve(None)
    assert lab.on() == ["m2"]


@pytest.mark.parametrize("jump", [DAY, -DAY])
def test_why_it_waits_is_told_anew_after_a_jump(lab: Lab, jump: float) -> None:
    lab.declare(Machine("m1", "z1", {"vcpu": 4.0}))
    asking = Asking("me", "a new disk")
    lab.inventories.set_state("lab", "m1", MachineState.DOWN, asking)
    assert lab.place() == [""]
    assert "down since" in lab.environment().reason
    lab.clock.sleep(jump)
    lab.inventories.set_state("lab", "m1", MachineState.QUARANTINED, asking)
    lab.scheduler.reserve(None)
    assert "quarantined since" in lab.environment().reason
    lab.inventories.set_state("lab", "m1", MachineState.IN_SERVICE, asking)
    lab.scheduler.reserve(None)
    assert lab.on() == ["m1"]


def test_what_moves_has_no_moment_to_come() -> None:
    plain = requested("env-1", SINGLE, "lab", NOW)
    assert under_clock(plain, NOW + DAY) is plain
    soon = replace(plain, not_before=NOW + 60)
    assert under_clock(soon, NOW) is soon
    ahead = under_clock(soon, NOW - DAY)
    assert (ahead.state_since, ahead.not_before, ahead.created_at) == (NOW - DAY, 0.0, NOW)


def test_a_retry_does_not_wait_for_the_old_time(lab: Lab) -> None:
    lab.declare(Machine("m1", "z1", {"vcpu": 4.0}))
    lab.place()
    loaded = lab.books.environments.get("env-1")
    later = replace(loaded.value, not_before=lab.clock.now() + 60)
    lab.books.commit(lab.books.environments.kind.put("env-1", later, loaded.version))
    assert lab.lifecycle.advance("env-1").state is E.RESERVED
    lab.clock.sleep(-DAY)
    assert lab.lifecycle.advance("env-1").state is E.READY


@pytest.fixture
def world(tmp_path: Path) -> World:
    return usual_world(tmp_path)


def test_a_run_passes_although_the_clock_goes_back_while_it_is_built(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.cloud.slow = True
    world.push("shop", USUAL)
    world.advance(3)
    world.clock.sleep(-DAY)
    world.advance(3)
    world.cloud.finish()
    world.cloud.slow = False
    world.advance(30)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
    assert "the clock jumped back by 86" in caplog.text
    world.push("shop", USUAL, branch="b")
    world.advance(30)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED, Verdict.PASSED]


def test_a_day_ahead_ends_what_was_due_and_nothing_else(world: World, caplog: pytest.LogCaptureFixture) -> None:
    world.cloud.slow = True
    world.push("shop", USUAL)
    world.advance(3)
    world.clock.sleep(DAY)
    world.advance(30)
    world.cloud.slow = False
    world.push("shop", USUAL, branch="b")
    world.advance(30)
    assert [run.verdict for run in world.all_runs()][-1] is Verdict.PASSED
    assert world.cloud.nodes == {}
    assert "Traceback" not in caplog.text


def test_a_breaker_that_opened_before_the_clock_went_back_lets_a_probe_through() -> None:
    breaker = Breaker()
    while breaker.state is BreakerState.CLOSED:
        breaker = failed(breaker, "503", NOW)
    assert not may_call(breaker, NOW)
    assert may_call(breaker, NOW - DAY)
    assert may_call(breaker, NOW + DAY)


def test_faults_and_deletes_of_the_old_time_count_no_more() -> None:
    faults = [Build(f"m{at % 4}", "z", "debian-12", "shop", NOW, "no answer") for at in range(9)]
    history = remember(History(), faults, NOW)
    assert judge(history, NOW) != Judgement()
    assert judge(history, NOW - DAY) == judge(history, NOW + DAY) == Judgement()
    assert remember(history, (), NOW - DAY) == History()
    lab = Lab()
    gate = Gate(lab.books, lab.clock)
    lab.books.commit(Put("budget", "lab", 0, {"times": [lab.clock.now()]}))
    assert gate.spent("lab") == 1
    lab.clock.sleep(-DAY)
    assert gate.spent("lab") == 0


def test_a_measurement_of_the_old_time_takes_nothing_back() -> None:
    inventory = Inventory(
        (Machine("m0", "z", {"vcpu": 8.0}),), (Zone("z"),), limits=LoadLimits({"vcpu": 0.8}, {"vcpu": 0.9})
    )
    loads = {"m0": Load(NOW, {"vcpu": 1.0})}
    nodes = (Node("web-0", "web", "debian-12", SIZES["small"], PROFILES["frugal"], machine="m0", zone="z"),)
    there = replace(requested("env-1", SINGLE, "lab", NOW - 600), state=E.LEASED, nodes=nodes, placed_at=NOW - 500)
    there = replace(there, built_at=NOW - 400, ends_at=NOW + 2 * DAY)
    assert [one.environment for one in relieving(inventory, loads, [there], NOW)] == ["env-1"]
    assert relieving(inventory, loads, [there], NOW - DAY) == []
    assert relieving(inventory, loads, [there], NOW + DAY) == []
