"""Preemption: no victim could be left out, nothing dear is taken, and the fleet is left as it was."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import (
    Environment,
    EnvironmentState,
    Node,
    Notice,
    Purpose,
    begin_destroying,
    displace,
)
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest, Standing
from pipeline.domain.preemption import MOST_TIMES, TAKEN_FROM, Candidate, candidate, may_preempt, preempt
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import SIZES
from tests.tools import placement_instances as instances
from tests.tools.placement_checker import broken
from tests.tools.placement_instances import demand

NOW = 1000.0
E = EnvironmentState


def rack(machines: int = 2, vcpu: float = 4.0) -> Inventory:
    capacity = {"vcpu": vcpu, "memory_mib": 8192.0, "disk_gib": 100.0}
    return Inventory(tuple(Machine(f"m{at}", "z", capacity) for at in range(machines)), (Zone("z"),))


def node(environment: str, machine: str, vcpu: float) -> Standing:
    return Standing(environment, "other", "web", machine, demand(vcpu, 256.0), QosClass.BEST_EFFORT)


def wanting(vcpu: float, count: int = 1) -> Request:
    role = RoleRequest("db", count, demand(vcpu, 256.0), qos_class=QosClass.GUARANTEED)
    return Request("env-wanted", "shop", "shop", (role,))


def young(id: str, since: float = 0.0, priority: Priority = Priority.PUSH, preempted: int = 0) -> Candidate:
    return Candidate(id, priority, since, preempted)


def test_one_that_is_large_enough_goes_rather_than_several() -> None:
    fleet = Fleet(rack(1), [node("a", "m0", 1), node("b", "m0", 1), node("c", "m0", 2)])
    found = preempt(fleet, wanting(2), [young("a", 3), young("b", 2), young("c", 1)], NOW)
    assert found is not None
    assert set(found.victims) in ({"c"}, {"a", "b"})
    assert found.placed.machines == {"db": ("m0",)}


@pytest.mark.parametrize(
    ("dear", "cheap"),
    [
        (young("dear", 1), young("cheap", 2)),
        (young("dear", 2, Priority.PUSH), young("cheap", 1, Priority.NIGHTLY)),
        (young("dear", 2, Priority.INTERACTIVE), young("cheap", 1, Priority.PUSH)),
        (young("dear", 2, Priority.NIGHTLY, preempted=1), young("cheap", 1, Priority.INTERACTIVE)),
    ],
)
def test_of_two_that_would_do_the_cheaper_one_goes(dear: Candidate, cheap: Candidate) -> None:
    fleet = Fleet(rack(2), [node("dear", "m0", 4), node("cheap", "m1", 4)])
    for order in ([dear, cheap], [cheap, dear]):
        found = preempt(fleet, wanting(4), order, NOW)
        assert found is not None
        assert found.victims == ("cheap",)


def test_nobody_goes_where_that_would_not_help() -> None:
    fleet = Fleet(rack(1), [node("a", "m0", 1), node("firm", "m0", 3)])
    assert preempt(fleet, wanting(2), [young("a")], NOW) is None
    assert preempt(fleet, wanting(2), [], NOW) is None


def test_nobody_goes_from_where_the_request_may_not_stand() -> None:
    fleet = Fleet(rack(2), [node("a", "m0", 4), node("b", "m1", 4), node("elsewhere", "gone", 4)])
    found = preempt(fleet, wanting(4, count=2), [young("a"), young("b"), young("elsewhere")], NOW)
    assert found is not None
    assert found.victims == ("a", "b")


@pytest.mark.parametrize(("room", "victims"), [(0, ("a",)), (1, None), (-1, ("a", "b"))])
def test_where_only_the_count_of_nodes_is_short_as_few_go(room: int, victims: tuple[str, ...] | None) -> None:
    fleet = Fleet(rack(4), [node("a", "m0", 1), node("b", "m1", 1)])
    found = preempt(fleet, wanting(1), [young("a", 2), young("b", 1)], NOW, node_room=room)
    assert (found.victims if found else None) == (victims or ())


def test_what_leaves_already_makes_room_first() -> None:
    fleet = Fleet(rack(1), [node("a", "m0", 2), node("b", "m0", 2), node("nominated", "m0", 2)])
    may_go = [young("a", 1), young("b", 2)]
    found = preempt(fleet, wanting(2), may_go, NOW, leaving=("b",))
    assert found is not None
    assert found.victims == ("a",)
    enough = preempt(Fleet(rack(1), [node("a", "m0", 2), node("b", "m0", 2)]), wanting(2), may_go, NOW, leaving=("b",))
    assert enough is not None
    assert enough.victims == ()
    assert sorted(fleet.standing) == ["a", "b", "nominated"]


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 10**9))
def test_no_victim_could_be_left_out(seed: int) -> None:
    dice = random.Random(seed)
    inventory = instances.inventory(dice, dice.randint(2, 6), dice.randint(1, 3))
    fleet, there = _crowded(inventory, dice)
    request = replace(instances.request(dice, "env-wanted"), service="s9")
    may_go = [young(id, dice.random(), dice.choice(list(Priority))) for id in there if dice.random() < 0.8]
    before = fleet.free.copy()
    found = preempt(fleet, request, may_go, NOW)
    assert np.allclose(fleet.free, before), "the fleet is left as it was"
    assert sorted(fleet.standing) == sorted(there)
    if found is None:
        assert not _fits(inventory, there, request, {one.id for one in may_go}) or not may_go
        return
    left = [nodes for id, nodes in there.items() if id not in found.victims]
    assert set(found.victims) <= {one.id for one in may_go}
    assert broken(inventory, [one for nodes in left for one in nodes], request, found.placed) == []
    for spared in found.victims:
        assert not _fits(inventory, there, request, set(found.victims) - {spared})


def _crowded(inventory: Inventory, dice: random.Random) -> tuple[Fleet, dict[str, list[Standing]]]:
    fleet = Fleet(inventory)
    for number in range(12):
        request = instances.request(dice, f"env-{number}")
        answer = decide(fleet, request, NOW, explain=False)
        if isinstance(answer, Placed):
            fleet.reserve(request, answer, NOW)
    return fleet, {id: list(nodes) for id, nodes in fleet.standing.items()}


def _fits(inventory: Inventory, there: dict[str, list[Standing]], request: Request, gone: set[str]) -> bool:
    left = [one for id, nodes in there.items() if id not in gone for one in nodes]
    return isinstance(decide(Fleet(inventory, left), request, NOW, explain=False), Placed)


def environment(class_: QosClass = QosClass.BEST_EFFORT, **changes: object) -> Environment:
    nodes = (Node("web-0", "web", "debian-12", SIZES["small"], QosProfile(class_), machine="m0", zone="z"),)
    plain = Environment("env-1", "shop", "shop", "run-1", "lab", E.LEASED, nodes, Priority.PUSH, 1.0, 2.0, 3.0)
    return replace(plain, placed_at=5.0, **changes)  # type: ignore[arg-type]  # fields are given by name


@pytest.mark.parametrize("state", list(E))
def test_only_what_is_being_built_or_used_is_a_candidate(state: EnvironmentState) -> None:
    assert (candidate(environment(state=state)) is not None) is (state in TAKEN_FROM)


@pytest.mark.parametrize(
    "stays",
    [
        environment(QosClass.BURSTABLE),
        environment(QosClass.GUARANTEED),
        environment(protected="its owner says so"),
        environment(purpose=Purpose.STAGING),
        environment(preempted=MOST_TIMES),
        environment(notice=Notice(9.0, "env-2", "told already")),
    ],
)
def test_what_is_firm_protected_staged_or_had_its_share_stays(stays: Environment) -> None:
    assert candidate(stays) is None


def test_a_candidate_is_worth_what_its_environment_is() -> None:
    assert candidate(environment(preempted=2)) == Candidate("env-1", Priority.PUSH, 5.0, 2)


def test_one_guaranteed_node_makes_a_request_firm() -> None:
    mixed = environment(QosClass.BURSTABLE)
    firm = environment(QosClass.GUARANTEED)
    assert not may_preempt(mixed)
    assert may_preempt(mixed.with_nodes((*mixed.nodes, *firm.nodes)))


def test_a_displaced_reservation_has_no_place_left() -> None:
    moved = displace(environment(state=E.RESERVED), 7.0, "its machine is down")
    assert (moved.state, moved.placed_at, moved.reason) == (E.REQUESTED, 0.0, "its machine is down")
    assert [(one.machine, one.zone) for one in moved.nodes] == [("", "")]
    assert begin_destroying(moved, 8.0, "").state is E.WITHDRAWN
