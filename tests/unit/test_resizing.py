"""Which nodes come and go in an environment that stands, and where further ones are placed."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain import resizing
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, NodeState, planned_nodes
from pipeline.domain.errors import InvalidTransition, UserError
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.further import place_further
from pipeline.domain.placement.model import Placed
from pipeline.domain.placement.requests import request_of, standing_of, with_placement
from pipeline.domain.rules import PlacementRules, Spread, Within
from pipeline.domain.scaling import Scaling
from tests.tools import placement_instances as instances
from tests.tools.placement_by_hand import NOW, small
from tests.tools.placement_checker import broken
from tests.tools.requests import requested

N = NodeState
WISH = Scaling("web", 3, "ada", "the fair", NOW)


def standing(spec: EnvironmentSpec, state: NodeState = N.IN_SERVICE) -> Environment:
    """All its nodes are in `state`."""
    nodes = (replace(node, state=state) for node in planned_nodes(spec))
    return replace(requested("env-1", spec, "lab", NOW), state=EnvironmentState.LEASED).with_nodes(nodes)


def webs(count: int, spread: Spread = Spread.NONE) -> Environment:
    return standing(EnvironmentSpec("debian-12", (RoleSpec("web", count, rules=PlacementRules(spread=spread)),)))


def at(environment: Environment, **places: str) -> Environment:
    """With nodes in zones, by the end of their names."""
    zones = {f"web-{number.removeprefix('n')}": zone for number, zone in places.items()}
    return environment.with_nodes(replace(one, zone=zones[one.name], machine=one.name) for one in environment.nodes)


def test_the_newest_go_first() -> None:
    assert resizing.chosen_to_go(webs(4), "web", 2) == ("web-3", "web-2")


def test_what_is_not_well_goes_before_what_is() -> None:
    environment = webs(3)
    ill = replace(environment.nodes[0], state=N.LOST)
    assert resizing.chosen_to_go(environment.with_nodes([ill, *environment.nodes[1:]]), "web", 1) == ("web-0", "web-2")


def test_a_spread_role_gives_where_most_of_it_stands() -> None:
    environment = at(webs(4, Spread.ZONE), n0="a", n1="a", n2="a", n3="b")
    assert resizing.chosen_to_go(environment, "web", 2) == ("web-2", "web-1")
    assert resizing.chosen_to_go(at(webs(4), n0="a", n1="a", n2="a", n3="b"), "web", 2) == ("web-3", "web-2")


def test_new_nodes_have_the_lowest_free_names_and_nothing_of_the_first() -> None:
    used = replace(webs(2).nodes[1], address="192.0.2.1", machine="m1", zone="a", driver_id="x", sealed_host_key="s")
    grown = resizing.grown(webs(2).with_nodes([used]), WISH)
    assert [(node.name, node.state) for node in grown.nodes] == [
        ("web-1", "in-service"), ("web-0", "planned"), ("web-2", "planned"),
    ]  # fmt: skip
    assert grown.scaling is not None
    assert grown.scaling.coming == ("web-0", "web-2")
    new = grown.nodes[1]
    assert (new.address, new.machine, new.zone, new.driver_id, new.sealed_host_key) == (None, "", "", "", "")


def test_addresses_that_are_given_one_by_one_do_not_grow() -> None:
    role = RoleSpec("web", 2, networks={"back": ("10.40.0.7", "10.40.0.8")})
    with pytest.raises(UserError, match="has addresses of its own in network back, one for each of 2 nodes"):
        resizing.grown(standing(EnvironmentSpec("debian-12", (role,))), WISH)


def test_an_environment_of_a_run_is_not_scaled() -> None:
    with pytest.raises(InvalidTransition, match=r"is run run-1's, whose greenroom\.yml says how many nodes it has"):
        resizing.check(replace(webs(1), owner="run-1"), "web")


def test_nodes_that_stay_after_all_are_in_service_again() -> None:
    environment = webs(2)
    drains = resizing.draining(environment, "web-1")
    assert [node.state for node in drains.nodes] == ["in-service", "draining"]
    assert resizing.back_in_service(drains) == environment


def test_what_is_lost_is_told_until_it_is_replaced() -> None:
    lost = resizing.lose(webs(2), {"web-1": "it burnt"})
    assert (lost.nodes[1].state, lost.degraded) == (N.LOST, "node web-1 is lost: it burnt")
    wish = replace(WISH, count=2, coming=("web-1",), replaces=True)
    failed = resizing.ended(resizing.replacing(lost, replace(wish, fault="no room")), replace(wish, fault="no room"))
    assert failed.degraded == "the lost nodes of role web: no room; node web-1 is lost: it burnt"
    assert failed.replaced == 1


@settings(deadline=None)
@given(st.integers(0, 1 << 32), st.sampled_from(Spread), st.sampled_from(Within), st.integers(1, 3), st.integers(1, 5))
def test_no_rule_is_broken_by_further_nodes(seed: int, spread: Spread, within: Within, before: int, more: int) -> None:
    dice = random.Random(seed)
    inventory = instances.inventory(dice, dice.randint(1, 8), dice.randint(1, 4))
    web = RoleSpec("web", before, rules=PlacementRules(spread=spread, max_per_zone=dice.choice([None, 2, 3])))
    db = RoleSpec("db", 1, rules=PlacementRules(near=dice.choice([None, "web"])))
    spec = EnvironmentSpec("debian-12", (web, db), within=within)
    environment = standing(spec)
    first = decide(Fleet(inventory), request_of(environment), NOW)
    if not isinstance(first, Placed):
        return
    zones = {machine.name: machine.zone for machine in inventory.machines}
    stands = with_placement(environment, first, zones, NOW)
    role = dice.choice(["web", "db"])
    wish = replace(WISH, role=role, count=len(stands.of_role(role)) + more)
    grown = resizing.grown(stands, wish)
    assert grown.scaling is not None
    fleet = Fleet(inventory)
    fleet.add(standing_of(grown))
    after, answer = place_further(fleet, grown, grown.scaling.coming, (), NOW)
    assert [(one.name, one.machine) for one in after.nodes][: len(stands.nodes)] == [
        (one.name, one.machine) for one in stands.nodes
    ]
    if isinstance(answer, Placed):
        machines = {name: tuple(one.machine for one in after.of_role(name)) for name in ("web", "db")}
        wrong = broken(inventory, [], request_of(after), Placed(machines))
        assert [one for one in wrong if not one.endswith("too many builds")] == []  # those that stand are none
        assert [one.role for one in standing_of(after) if one.building] == [role] * more
    else:
        assert after == grown


def test_further_nodes_of_a_spread_role_go_where_few_of_it_stand() -> None:
    inventory = small(4, 2)
    environment = webs(2, Spread.ZONE)
    first = decide(Fleet(inventory), request_of(environment), NOW)
    assert isinstance(first, Placed)
    zones = {machine.name: machine.zone for machine in inventory.machines}
    grown = resizing.grown(with_placement(environment, first, zones, NOW), replace(WISH, count=4))
    fleet = Fleet(inventory)
    fleet.add(standing_of(grown))
    after, _ = place_further(fleet, grown, ("web-2", "web-3"), (), NOW)
    assert sorted(node.zone for node in after.nodes) == ["z0", "z0", "z1", "z1"]
