"""Placement: no rule is ever broken, capacity is conserved, the same question has the same answer."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline.domain.inventory import Load, LoadLimits, MachineKind, MachineState, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Infeasible, Placed, Request, RoleRequest, Unschedulable
from pipeline.domain.placement.whatif import emptied, what_if
from pipeline.domain.qos import QosClass
from pipeline.domain.rules import Affinity, Attribute, BareMetal, PlacementRules, Spread, Stance, Strategy, Within
from tests.tools import placement_instances as instances
from tests.tools.placement_by_hand import NOW, asking, small, web
from tests.tools.placement_checker import broken
from tests.tools.placement_instances import demand


def placed(fleet: Fleet, request: Request) -> Placed:
    answer = decide(fleet, request, NOW)
    assert isinstance(answer, Placed), answer
    return answer


def test_packing_fills_one_machine_and_spreading_uses_all() -> None:
    packed = placed(Fleet(small()), asking(web(4)))
    spread = placed(Fleet(small()), asking(web(4), strategy=Strategy.SPREAD))
    assert len(set(packed.machines["web"])) == 1
    assert len(set(spread.machines["web"])) == 4


def test_spread_over_zones_and_machines_is_even() -> None:
    fleet = Fleet(small(6, 3))
    by_zone = placed(fleet, asking(web(6, PlacementRules(spread=Spread.ZONE))))
    zones = [fleet.zone_of(name) for name in by_zone.machines["web"]]
    assert sorted(zones) == ["z0", "z0", "z1", "z1", "z2", "z2"]
    by_machine = placed(fleet, asking(web(6, PlacementRules(spread=Spread.MACHINE))))
    assert len(set(by_machine.machines["web"])) == 6


def test_a_role_near_another_shares_its_zone() -> None:
    database = RoleRequest("db", 1, demand(3.0, 3072.0))
    near = RoleRequest("web", 4, demand(1.0, 1024.0), rules=PlacementRules(near="db"))
    fleet = Fleet(small(4, 2))
    answer = placed(fleet, asking(near, database))
    assert {fleet.zone_of(name) for name in answer.machines["web"]} == {fleet.zone_of(answer.machines["db"][0])}


def test_bare_metal_is_leased_whole_and_falls_back_with_a_note() -> None:
    inventory = small(2)
    inventory = replace(
        inventory, machines=(replace(inventory.machines[0], kind=MachineKind.BARE_METAL), *inventory.machines[1:])
    )
    answer = placed(Fleet(inventory), asking(web(2, PlacementRules(bare_metal=BareMetal.WANTED))))
    assert set(answer.machines["web"]) == {"m0", "m1"}
    assert "fell back to virtual machines" in answer.notes[0]
    refused = decide(Fleet(inventory), asking(web(2, PlacementRules(bare_metal=BareMetal.REQUIRED))), NOW)
    assert isinstance(refused, Infeasible)


def test_services_that_shun_each_other_share_no_machine() -> None:
    fleet = Fleet(small(1, 1))
    shy = asking(web(1, PlacementRules(apart_from=("payroll",))))
    fleet.reserve(shy, placed(fleet, shy), NOW)
    other = replace(asking(web(1)), environment="env-2", service="payroll")
    answer = decide(fleet, other, NOW)
    assert isinstance(answer, Unschedulable)
    assert "payroll" in str(answer.explanation)


def test_room_is_kept_so_that_any_zone_may_fail() -> None:
    fleet = Fleet(small(2, 2, spare_zones=frozenset({QosClass.GUARANTEED})))
    firm = RoleRequest("web", 4, demand(1.0, 1024.0), qos_class=QosClass.GUARANTEED)
    first = asking(firm)
    fleet.reserve(first, placed(fleet, first), NOW)
    answer = decide(fleet, replace(first, environment="env-2"), NOW)
    assert isinstance(answer, Unschedulable)
    assert "could not fail" in str(answer.explanation)


def test_an_uplink_is_shared_by_the_machines_of_a_zone() -> None:
    fleet = Fleet(replace(small(2, 1), zones=(Zone("z0", uplink_in=1e9, uplink_out=1e9),)))
    greedy = asking(RoleRequest("web", 3, demand(1.0, 1024.0, network=4e8)))
    answer = decide(fleet, greedy, NOW)
    assert isinstance(answer, Unschedulable)
    assert "uplink" in {group.rule for group in answer.explanation.groups}


def test_stale_measurements_count_as_full_and_what_was_placed_since_counts_on_top() -> None:
    limits = LoadLimits(full={"vcpu": 0.75}, stale_s=30.0)
    inventory = small(1, 1, limits=limits)
    assert isinstance(decide(Fleet(inventory), asking(web(1)), NOW), Unschedulable)
    fleet = Fleet(inventory, loads={"m0": Load(NOW, {"vcpu": 0.25})})
    one = asking(web(2))
    fleet.reserve(one, placed(fleet, one), NOW + 1)
    assert isinstance(decide(fleet, replace(one, environment="env-2"), NOW + 2), Unschedulable)
    fleet.built(one.environment, NOW + 2)
    fleet.set_loads({"m0": Load(NOW + 8, {"vcpu": 0.25})})
    assert isinstance(decide(fleet, replace(one, environment="env-2"), NOW + 9), Placed)
    assert isinstance(decide(fleet, replace(one, environment="env-2"), NOW + 40), Unschedulable)


def test_contradictions_and_unknown_names_are_infeasible_and_named() -> None:
    wanted = Affinity(Stance.REQUIRE, Attribute.ZONE, ("z0",))
    unwanted = Affinity(Stance.FORBID, Attribute.ZONE, ("z0",), "operator rule night")
    answer = decide(Fleet(small()), asking(web(1, PlacementRules((wanted, unwanted)))), NOW)
    assert isinstance(answer, Infeasible)
    assert "require zone z0 (greenroom.yml) contradicts forbid zone z0 (operator rule night)" in str(answer.explanation)
    ghost = Affinity(Stance.REQUIRE, Attribute.ZONE, ("z9",))
    answer = decide(Fleet(small()), asking(web(1, PlacementRules((ghost,)))), NOW)
    assert isinstance(answer, Infeasible)
    assert "there is no zone z9; there are: z0, z1" in str(answer.explanation)


def test_too_large_and_too_many_are_infeasible_with_the_remedy() -> None:
    large = decide(Fleet(small()), asking(web(1, vcpu=8.0)), NOW)
    assert isinstance(large, Infeasible)
    assert "ask for at most 4 vCPU" in str(large.explanation)
    many = decide(Fleet(small()), asking(web(17)), NOW)
    assert isinstance(many, Infeasible)
    assert "ask for at most 16 nodes" in str(many.explanation)


def test_a_full_fleet_waits_and_says_what_is_short() -> None:
    fleet = Fleet(small())
    whole = asking(web(16))
    fleet.reserve(whole, placed(fleet, whole), NOW)
    answer = decide(fleet, replace(asking(web(1)), environment="env-2"), NOW)
    assert isinstance(answer, Unschedulable)
    assert "each of 2 zones (z0 … z1): 2 of 2 machines: at least 1 vCPU, 1 GiB memory short" in str(answer.explanation)


def test_machines_out_of_service_say_since_when_and_why() -> None:
    inventory = small(1, 1)
    out = inventory.machines[0].to(MachineState.QUARANTINED, 86400.0, "5 of 6 builds failed")
    answer = decide(Fleet(replace(inventory, machines=(out,))), asking(web(1)), NOW)
    assert isinstance(answer, Unschedulable)
    assert "quarantined since 1970-01-02 00:00 UTC (5 of 6 builds failed)" in str(answer.explanation)
    assert [str(one) for one in answer.explanation.remedies] == ["put machine m0 back in service"]


def test_machines_out_of_service_for_several_reasons_keep_each_its_own() -> None:
    inventory = small(2, 1)
    out = (
        inventory.machines[0].to(MachineState.MAINTENANCE, 0.0, "memory errors"),
        inventory.machines[1].to(MachineState.DRAINING, 86400.0, "new switches"),
    )
    answer = decide(Fleet(replace(inventory, machines=out)), asking(web(1)), NOW)
    assert isinstance(answer, Unschedulable)
    assert (
        "1 maintenance since 1970-01-01 00:00 UTC (memory errors), 1 draining since 1970-01-02 00:00 UTC (new switches)"
    ) in str(answer.explanation)


NEAR_DB = PlacementRules(near_service="db")


def database(fleet: Fleet, zone: str, project: str = "shop", name: str = "env-db") -> None:
    """A service `db` of a project stands in a zone."""
    only = PlacementRules((Affinity(Stance.REQUIRE, Attribute.ZONE, (zone,)),))
    request = Request(name, project, "db", (RoleRequest("db", 1, demand(1.0, 1024.0), rules=only),))
    fleet.reserve(request, placed(fleet, request), NOW)


def test_a_role_near_a_service_stands_in_its_zones_alone() -> None:
    fleet = Fleet(small(6, 3))
    database(fleet, "z1")
    answer = placed(fleet, asking(web(4, NEAR_DB)))
    assert {fleet.zone_of(name) for name in answer.machines["web"]} == {"z1"}
    database(fleet, "z2", name="env-db-2")
    both = placed(fleet, asking(web(8, replace(NEAR_DB, spread=Spread.MACHINE)), strategy=Strategy.SPREAD))
    assert {fleet.zone_of(name) for name in both.machines["web"]} <= {"z1", "z2"}


def test_what_stands_on_the_same_machines_emptied_says_nothing_of_other_copies() -> None:
    fleet = Fleet(small(6, 3))
    database(fleet, "z1")
    assert emptied(fleet).zones_with("shop", "db") == frozenset()
    assert {fleet.zones[zone].name for zone in what_if(fleet).zones_with("shop", "db")} == {"z1"}


def test_a_service_that_stands_nowhere_is_waited_for() -> None:
    fleet = Fleet(small())
    database(fleet, "z1", project="blog", name="env-other")
    answer = decide(fleet, asking(web(1, NEAR_DB)), NOW)
    assert isinstance(answer, Unschedulable)
    assert {group.rule for group in answer.explanation.groups} == {"near"}
    assert "no node of service db stands anywhere" in str(answer.explanation)
    assert [str(one) for one in answer.explanation.remedies] == [
        "let role web stand away from service db (drop `near`)"
    ]
    assert {group.remedy for group in answer.explanation.groups} == {
        "start an environment of service db in the same project, or leave `near` out"
    }
    database(fleet, "z1")
    assert isinstance(decide(fleet, asking(web(1, NEAR_DB)), NOW), Placed)
    fleet.remove("env-db")
    assert isinstance(decide(fleet, asking(web(1, NEAR_DB)), NOW), Unschedulable)


def test_no_room_near_a_service_is_told_by_zone() -> None:
    fleet = Fleet(small(2, 2))
    database(fleet, "z1")
    answer = decide(fleet, asking(web(4, NEAR_DB)), NOW)
    assert isinstance(answer, Unschedulable)
    rules = {group.zone: group.rule for group in answer.explanation.groups}
    assert rules == {"z0": "near", "z1": "capacity"}
    assert str(answer.explanation.remedies[0]) == "free 1 vCPU, 1 GiB memory on machine m1"


def test_an_environment_within_one_zone_goes_to_the_service() -> None:
    fleet = Fleet(small(6, 3))
    database(fleet, "z2")
    other = RoleRequest("app", 2, demand(1.0, 1024.0))
    answer = placed(fleet, asking(web(2, NEAR_DB), other, within=Within.ZONE))
    assert {fleet.zone_of(name) for names in answer.machines.values() for name in names} == {"z2"}
    chained = replace(other, rules=PlacementRules(near="web"))
    answer = placed(fleet, asking(web(2, NEAR_DB), chained))
    assert {fleet.zone_of(name) for names in answer.machines.values() for name in names} == {"z2"}


@settings(deadline=None)
@example(4159249)
@example(2049721)
@given(st.integers(0, 10**9))
def test_no_placement_breaks_a_rule_and_the_same_question_has_the_same_answer(seed: int) -> None:
    dice = random.Random(seed)
    inventory = instances.inventory(dice, dice.randint(1, 8), dice.randint(1, 3))
    fleet = Fleet(inventory)
    for number in range(6):
        request = instances.request(dice, f"env-{number}")
        before = [node for nodes in fleet.standing.values() for node in nodes]
        explain = number == 5
        answer = decide(fleet, request, NOW, explain=explain)
        assert answer == decide(fleet.clone(), request, NOW, explain=explain)
        if isinstance(answer, Placed):
            assert broken(inventory, before, request, answer) == []
            fleet.reserve(request, answer, NOW)
