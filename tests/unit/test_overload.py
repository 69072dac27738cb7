"""Above the drain limit best-effort environments go: the right ones, enough, and none too many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.blueprint import Priority
from pipeline.domain.environments import Environment, EnvironmentState, Node
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone
from pipeline.domain.overload import TAKEABLE, TakeBack, relieving
from pipeline.domain.qos import QosClass, QosProfile
from pipeline.domain.resources import Resources

NOW = 10_000.0
MACHINES = ("m0", "m1", "m2")
VCPU = 8.0
INVENTORY = Inventory(
    tuple(Machine(name, "z", {"vcpu": VCPU, "memory_mib": 8192.0}) for name in MACHINES),
    (Zone("z"),),
    limits=LoadLimits(full={"vcpu": 0.8}, drain={"vcpu": 0.9}, stale_s=60.0, ramp_s=5.0),
)
E = EnvironmentState


def environment(
    id: str,
    *machines: str,
    vcpu: float = 1.0,
    qos: QosClass = QosClass.BEST_EFFORT,
    state: EnvironmentState = E.LEASED,
    protected: str = "",
    placed_at: float = 1000.0,
) -> Environment:
    """One node on each machine."""
    nodes = tuple(
        Node(f"app-{n}", "app", "plain", Resources(vcpu, 64, 1), QosProfile(qos_class=qos), machine=name, zone="z")
        for n, name in enumerate(machines)
    )
    made = Environment(id, "p", "s", "run", "lab", state, nodes, Priority.NIGHTLY, 0.0, 0.0, 1e9, protected=protected)
    return replace(made, placed_at=placed_at, built_at=placed_at + 20)


def loaded(at: float = NOW - 20, **used: float) -> dict[str, Load]:
    return {name: Load(at, {"vcpu": used.get(name, 0.1)}) for name in MACHINES}


def taken(
    environments: Sequence[Environment], loads: dict[str, Load], left_at: dict[str, float] | None = None
) -> list[TakeBack]:
    return relieving(INVENTORY, loads, environments, NOW, left_at)


def test_one_is_enough_and_the_reason_names_the_machine() -> None:
    environments = [environment("old", "m0"), environment("young", "m0", placed_at=9000.0)]
    assert taken(environments, loaded(m0=0.97)) == [
        TakeBack("young", "machine m0: measured vcpu 0.97 is above its drain limit 0.9")
    ]


def test_what_relieves_two_machines_goes_instead_of_two() -> None:
    environments = [environment("one", "m0"), environment("two", "m1"), environment("both", "m0", "m1")]
    assert [one.environment for one in taken(environments, loaded(m0=0.95, m1=0.95))] == ["both"]


def test_at_the_limit_and_on_other_machines_nothing_goes() -> None:
    assert taken([environment("e", "m0", "m1")], loaded(m0=0.9, m2=1.2)) == []


@pytest.mark.parametrize(
    "stays",
    [
        environment("e", "m0", state=E.HELD),
        environment("e", "m0", state=E.ADOPTED),
        environment("e", "m0", protected="the fair"),
        environment("e", "m0", qos=QosClass.BURSTABLE),
        environment("e", "m0", qos=QosClass.GUARANTEED),
        environment("e", "m0", state=E.BUILDING),
        environment("e", "m0", placed_at=NOW - 30),
    ],
    ids=["held", "adopted", "protected", "burstable", "guaranteed", "building", "younger than the measurement"],
)
def test_what_stays_whatever_is_measured(stays: Environment) -> None:
    assert taken([stays], loaded(m0=2.0)) == []


def test_stale_and_overtaken_measurements_drain_nothing() -> None:
    environments = [environment("e", "m0")]
    assert taken(environments, loaded(at=NOW - 61, m0=2.0)) == []
    assert taken(environments, loaded(m0=2.0), {"m0": NOW - 10}) == []
    assert taken(environments, loaded(m0=2.0), {"m0": NOW - 30}) != []
    assert taken(environments, {}) == []


def test_what_is_on_its_way_out_counts_as_gone() -> None:
    going = environment("going", "m0", state=E.DESTROYING)
    assert taken([going, environment("e", "m0")], loaded(m0=0.97)) == []


def test_without_drain_limits_nothing_goes() -> None:
    for limits in (None, LoadLimits(full={"vcpu": 0.5})):
        assert relieving(replace(INVENTORY, limits=limits), loaded(m0=2.0), [environment("e", "m0")], NOW) == []


@st.composite
def standings(draw: st.DrawFn) -> list[Environment]:
    made = []
    for number in range(draw(st.integers(0, 6))):
        machines = draw(st.lists(st.sampled_from(MACHINES), min_size=1, max_size=3))
        qos = draw(st.sampled_from([QosClass.BEST_EFFORT, QosClass.BEST_EFFORT, QosClass.BURSTABLE]))
        state = draw(st.sampled_from([E.LEASED, E.LEASED, E.READY, E.HELD, E.DESTROYING, E.BUILDING]))
        protected = draw(st.sampled_from(["", "", "the fair"]))
        vcpu, placed_at = draw(st.sampled_from([0.5, 1.0, 2.0])), draw(st.floats(0, NOW))
        made.append(
            environment(
                f"e{number}", *machines, vcpu=vcpu, qos=qos, state=state, protected=protected, placed_at=placed_at
            )
        )
    return made


def relieved(environments: Sequence[Environment], gone: Sequence[str], loads: dict[str, Load]) -> dict[str, float]:
    """An account of its own: what each machine is expected to bear, in vcpu, when some are gone."""
    expected = {}
    for name in MACHINES:
        load = loads[name]
        there = [(one, node) for one in environments for node in one.nodes if node.machine == name]
        there = [(one, node) for one, node in there if one.state is not E.BUILDING and one.built_at + 5 < load.at]
        asked = sum(node.resources.vcpu for _, node in there)
        part = min(1.0, load.used["vcpu"] * VCPU / asked) if asked else 0.0
        less = sum(node.resources.vcpu for one, node in there if one.id in gone or one.state is E.DESTROYING)
        expected[name] = load.used["vcpu"] * VCPU - part * less
    return expected


@settings(deadline=None)
@given(standings(), st.lists(st.floats(0.0, 1.5), min_size=3, max_size=3), st.floats(0.0, 70.0))
def test_enough_goes_and_nothing_too_much(environments: list[Environment], used: list[float], age_s: float) -> None:
    loads = loaded(NOW - age_s, **dict(zip(MACHINES, used, strict=True)))
    answer = taken(environments, loads)
    gone = [one.environment for one in answer]
    by_id = {one.id: one for one in environments}
    assert len(set(gone)) == len(gone)
    for id in gone:
        assert by_id[id].state in TAKEABLE
        assert not by_id[id].protected
        assert {node.qos.qos_class for node in by_id[id].nodes} == {QosClass.BEST_EFFORT}
    if age_s > 60:
        assert gone == []
        return
    limit = VCPU * 0.9
    permitted = [one.id for one in environments if taken([one], loaded(NOW - age_s, **dict.fromkeys(MACHINES, 9.0)))]
    best = relieved(environments, permitted, loads)
    for name, bears in relieved(environments, gone, loads).items():
        assert bears <= max(limit, best[name]) + 1e-6
    for fewer in combinations(gone, len(gone) - 1) if gone else ():
        after = relieved(environments, fewer, loads)
        assert any(after[name] > max(limit, best[name]) + 1e-9 for name in MACHINES)
