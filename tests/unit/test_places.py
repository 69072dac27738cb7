"""Machines that change under reservations: a re-plan, never a wrong placement, never more than there is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Machine, MachineState
from pipeline.domain.projects import Project
from pipeline.domain.qos import QosProfile
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, PlacementRules, Spread, Stance
from pipeline.envs import jobs
from pipeline.envs.gate import Asking
from tests.tools.lab import Lab

E, M = EnvironmentState, MachineState
FORCED = Asking("me", "it smells", {"in-use": "it smells"})


def machine(name: str, zone: str = "z1", vcpu: float = 4.0, **more: object) -> Machine:
    return Machine(name, zone, {"vcpu": vcpu}, **more)  # type: ignore[arg-type]  # fields by name


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.declare(machine("m1"), machine("m2", "z2"))
    return lab


def out(state: MachineState) -> Callable[[Lab, str], object]:
    return lambda lab, name: lab.inventories.set_state("lab", name, state, FORCED)


def gone(lab: Lab, name: str) -> None:
    lab.declare(*(one for one in (machine("m1"), machine("m2", "z2")) if one.name != name))


def shrunk(lab: Lab, name: str) -> None:
    lab.declare(*(replace(one, capacity={"vcpu": 0.5 if one.name == name else 4.0}) for one in two()))


def moved(lab: Lab, name: str) -> None:
    lab.declare(*(replace(one, zone="z2" if one.zone == "z1" else "z1") if one.name == name else one for one in two()))


def two() -> tuple[Machine, Machine]:
    return machine("m1"), machine("m2", "z2")


CHANGES = {
    "down": (out(M.DOWN), "machine {} is down (it smells)"),
    "maintenance": (out(M.MAINTENANCE), "machine {} is maintenance (it smells)"),
    "quarantined": (out(M.QUARANTINED), "machine {} is quarantined (it smells)"),
    "draining": (out(M.DRAINING), "machine {} is draining (it smells)"),
    "gone": (gone, "machine {} is down (it is not declared any more)"),
    "shrunk": (shrunk, "machine {} has become too small: 0.5 vCPU short"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_reservation_on_a_machine_that_changed_is_placed_again_before_anything_is_built(
    lab: Lab, change: str
) -> None:
    act, told = CHANGES[change]
    (first,) = lab.place()
    act(lab, first)
    lost = lab.lifecycle.advance("env-1")
    assert (lost.state, lost.reason) == (E.REQUESTED, f"placement lost: {told.format(first)}")
    assert lab.cloud.nodes == {}
    assert jobs.ADMIT in lab.store.peek(100)
    lab.scheduler.reserve(None)
    (second,) = lab.on()
    assert {first, second} == {"m1", "m2"}
    assert lab.lifecycle.advance("env-1").state is E.READY


def test_a_machine_that_changed_its_zone_loses_what_was_spread_by_zones(lab: Lab) -> None:
    role = RoleSpec("web", 2, rules=PlacementRules(spread=Spread.ZONE))
    assert sorted(lab.place(EnvironmentSpec("debian-12", (role,)))) == ["m1", "m2"]
    moved(lab, "m2")
    lost = lab.lifecycle.advance("env-1")
    assert lost.reason == "placement lost: machine m2 stands in zone z1 now, no more in z2"


def test_a_rule_that_forbids_the_machine_meanwhile_is_kept(lab: Lab) -> None:
    (first,) = lab.place()
    rule = Affinity(Stance.FORBID, Attribute.MACHINE, (first,), "operator rule new")
    lab.declare(*two(), rules=[OperatorRule("new", affinities=(rule,))])
    lost = lab.lifecycle.advance("env-1")
    assert f"does not keep the rule any more: forbid machine {first} (operator rule new)" in lost.reason
    lab.scheduler.reserve(None)
    assert lab.on() != [first]


def test_a_rule_of_its_project_is_kept_when_its_machine_changes(lab: Lab) -> None:
    fast = replace(machine("m1"), features=frozenset({"nvme"}))
    lab.declare(fast, machine("m2", "z2"))
    rule = OperatorRule("fast", affinities=(Affinity(Stance.REQUIRE, Attribute.FEATURE, ("nvme",), "rule fast"),))
    project = Project("shop", 0.0, "", rules=(rule,))
    lab.books.commit(lab.books.projects.kind.put("shop", project, 0))
    assert lab.place() == ["m1"]
    lab.declare(machine("m1"), replace(machine("m2", "z2"), features=frozenset({"nvme"})))
    assert "machine m1 does not keep the rule any more" in lab.lifecycle.advance("env-1").reason
    lab.scheduler.reserve(None)
    assert lab.on() == ["m2"]


def test_a_machine_to_which_it_came_back_for_want_of_others_is_no_lost_place(lab: Lab) -> None:
    lab.declare(machine("m1"))
    lab.place()
    loaded = lab.books.environments.get("env-1")
    again = replace(loaded.value, avoid=("m1",), placed_again=1)
    lab.books.commit(lab.books.environments.kind.put("env-1", again, loaded.version))
    lab.declare(replace(machine("m1"), capacity={"vcpu": 8.0}))
    assert lab.lifecycle.advance("env-1").state is E.READY


def test_an_uplink_that_became_narrower_is_kept(lab: Lab) -> None:
    role = RoleSpec("web", qos=QosProfile(network_out=10**8))
    rule = Affinity(Stance.REQUIRE, Attribute.ZONE, ("z1",))
    spec = EnvironmentSpec("debian-12", (replace(role, rules=PlacementRules((rule,))),))
    assert lab.place(spec) == ["m1"]
    lab.declare(*two(), z1=5e7)
    assert lab.lifecycle.advance("env-1").reason == "placement lost: the uplink of zone z1 has become too narrow"


@pytest.mark.parametrize("change", ["another machine", "a larger one", "put back", "nothing"])
def test_a_change_that_takes_nothing_away_loses_no_place(lab: Lab, change: str) -> None:
    (first,) = lab.place()
    other = "m2" if first == "m1" else "m1"
    if change == "another machine":
        out(M.DOWN)(lab, other)
    elif change == "a larger one":
        lab.declare(*(replace(one, capacity={"vcpu": 8.0}) for one in two()))
    elif change == "put back":
        out(M.DOWN)(lab, first)
        out(M.IN_SERVICE)(lab, first)
    assert lab.lifecycle.advance("env-1").state is E.READY
    assert lab.on() == [first]


def test_what_was_built_already_stays_where_it_is(lab: Lab) -> None:
    (first,) = lab.place()
    lab.lifecycle.advance("env-1")
    out(M.QUARANTINED)(lab, first)
    assert lab.lifecycle.advance("env-1").state is E.READY
    assert lab.on() == [first]


def test_a_place_that_is_lost_with_no_other_waits_and_says_why(lab: Lab) -> None:
    (first,) = lab.place()
    for name in ("m1", "m2"):
        out(M.DOWN)(lab, name)
    lost = lab.lifecycle.advance("env-1")
    assert lost.reason == f"placement lost: machine {first} is down (it smells)"
    lab.scheduler.reserve(None)
    assert lab.environment().state is E.REQUESTED
    assert "down since" in lab.environment().reason
    out(M.IN_SERVICE)(lab, "m2")
    lab.scheduler.reserve(None)
    assert lab.on() == ["m2"]


def test_a_machine_that_shrinks_under_many_reservations_keeps_no_more_than_it_holds(lab: Lab) -> None:
    lab.declare(machine("m1", vcpu=8.0))
    for at in range(8):
        assert lab.place(id=f"env-{at}") == ["m1"]
    lab.declare(machine("m1", vcpu=3.0))
    for at in range(8):
        lab.lifecycle.advance(f"env-{at}")
    states = [lab.environment(f"env-{at}").state for at in range(8)]
    assert states == [E.REQUESTED] * 5 + [E.READY] * 3
    lab.scheduler.reserve(None)
    assert sum(lab.environment(f"env-{at}").state is E.REQUESTED for at in range(8)) == 5


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_between_the_picture_and_the_write_makes_a_second_look(lab: Lab, change: str) -> None:
    act, _ = CHANGES[change]
    (first,) = lab.place(id="env-before")  # the next one goes there, too
    lab.request()
    happened: list[object] = []
    lab.store.before = lambda: happened.append(act(lab, first))
    lab.scheduler.reserve(None)
    assert len(happened) == 1
    assert lab.environment().state is E.RESERVED
    assert lab.on() != [first]
    assert lab.lifecycle.advance("env-1").state is E.READY
