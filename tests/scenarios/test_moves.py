"""A role goes to other machines while it serves, and back; whoever dies on the way, nothing is lost and nobody cut."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pipeline.domain import moves
from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.errors import GuardRefused, InvalidTransition, OverQuota, UserError
from pipeline.domain.projects import ProjectChange
from pipeline.domain.runs import StageName, StageState, Verdict
from pipeline.domain.traffic import Target
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND
from pipeline.stages.moving import MoveWish
from pipeline.stages.requests import Request
from tests.scenarios.player import usual_world
from tests.scenarios.test_kills_in_scenarios import EMPTY
from tests.scenarios.test_requests import INLINE, PLAIN, PREPARED, filled, made, now, told
from tests.scenarios.test_scaling import give_back
from tests.scenarios.test_stagings import BLUE, TWO, commit, environment, live
from tests.scenarios.test_traffic import QUICK, Watched, serving, stands
from tests.scenarios.world import World

E, N = EnvironmentState, NodeState
ASKING = Asking(BY_HAND, "the disks are too slow")
DRAIN_S, KEEP_S = 5.0, 60.0
TO_METAL = MoveWish("web", moves.BARE_METAL, DRAIN_S, KEEP_S)
TO_VM = replace(TO_METAL, to=moves.VM)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return mixed(tmp_path)


def mixed(scratch: Path) -> World:
    return filled(scratch, machines=8, registered=4)


def kinds(world: World, environment: Environment, role: str = "web") -> dict[str, str]:
    """The kind of machine of each node of a role."""
    machines = {one.name: str(one.kind) for one in world.inventories.view("cloud").inventory.machines}
    return {node.name: machines[node.machine] for node in now(world, environment).of_role(role)}


def test_a_role_goes_to_bare_metal_and_back_again(world: World) -> None:
    environment = made(world)
    assert kinds(world, environment) == {"web-0": "hypervisor", "web-1": "hypervisor"}
    world.moving.move(environment.id, TO_METAL, ASKING)
    world.advance(30)
    beside = now(world, environment)
    assert [(node.name, node.state) for node in beside.of_role("web")] == [
        ("web-0", N.DRAINING), ("web-1", N.DRAINING), ("web-2", N.IN_SERVICE), ("web-3", N.IN_SERVICE)
    ]  # fmt: skip
    world.advance(DRAIN_S + KEEP_S)
    assert kinds(world, environment) == {"web-2": "bare-metal", "web-3": "bare-metal"}
    assert (now(world, environment).scaling, now(world, environment).degraded) == (None, "")
    assert told(world, environment)[-3:] == ["environment.moving", "environment.moving", "environment.moved"]
    world.moving.move(environment.id, TO_VM, ASKING)
    world.advance(30 + DRAIN_S + KEEP_S)
    assert kinds(world, environment) == {"web-0": "hypervisor", "web-1": "hypervisor"}
    assert kinds(world, environment, "db") == {"db-0": "hypervisor"}


def test_what_comes_later_stands_where_the_role_was_moved_to(world: World) -> None:
    environment = made(world)
    world.moving.move(environment.id, TO_METAL, ASKING)
    world.advance(30 + DRAIN_S + KEEP_S)
    world.scale.scale(environment.id, "web", 3, ASKING)
    world.advance(60)
    assert kinds(world, environment) == dict.fromkeys(["web-2", "web-3", "web-0"], "bare-metal")


def test_a_role_goes_to_another_zone(world: World) -> None:
    environment = made(world)
    world.moving.move(environment.id, replace(TO_METAL, to="zone=rack-b"), ASKING)
    world.advance(30 + DRAIN_S + KEEP_S)
    assert {node.zone for node in now(world, environment).of_role("web")} == {"rack-b"}


def test_the_wish_takes_the_place_of_what_the_blueprint_says_of_the_same(world: World) -> None:
    ruled = {"image": "debian-12", "roles": {"web": {"require": {"zone": "rack-a"}, "forbid": {"kind": "bare-metal"}}}}
    environment = made(world, replace(INLINE, blueprint=json.dumps({**PLAIN, "environment": ruled})))
    for to in ("zone=rack-b", moves.BARE_METAL):
        world.moving.move(environment.id, replace(TO_METAL, to=to), ASKING)
        world.advance(30 + DRAIN_S + KEEP_S)
    (node,) = now(world, environment).nodes
    assert (node.zone, kinds(world, environment)) == ("rack-b", {node.name: "bare-metal"})


def test_who_stands_there_already_is_left_alone(world: World) -> None:
    environment = made(world)
    before = now(world, environment)
    assert world.moving.move(environment.id, TO_VM, ASKING) == before
    assert now(world, environment) == before


def test_the_same_wish_twice_is_one_and_another_has_to_wait(world: World) -> None:
    environment = made(world)
    first = world.moving.move(environment.id, TO_METAL, ASKING)
    assert world.moving.move(environment.id, TO_METAL, ASKING) == first
    with pytest.raises(InvalidTransition, match="role web is moved to bare-metal"):
        world.scale.scale(environment.id, "web", 3, ASKING)
    with pytest.raises(InvalidTransition, match="role web is moved to bare-metal"):
        world.moving.move(environment.id, TO_VM, ASKING)


def test_a_dry_run_changes_nothing_and_says_where_it_would_go(world: World) -> None:
    environment = made(world)
    before = now(world, environment)
    tried = world.moving.move(environment.id, TO_METAL, replace(ASKING, dry_run=True))
    machines = {one.name: str(one.kind) for one in world.inventories.view("cloud").inventory.machines}
    assert {machines[node.machine] for node in tried.named({"web-2", "web-3"})} == {"bare-metal"}
    assert now(world, environment) == before


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        (replace(TO_METAL, role="cache"), UserError, "has no role 'cache'; it has: web, db"),
        (replace(TO_METAL, to="moon"), UserError, "expected bare-metal, vm, zone=NAME or aggregate=NAME"),
        (replace(TO_METAL, to="zone="), UserError, "expected bare-metal"),
        (replace(TO_METAL, to="zone=rack-z"), UserError, "no zone 'rack-z'; there are: rack-a, rack-b"),
        (replace(TO_METAL, to="aggregate=fast"), UserError, "no aggregate 'fast'; there are: none"),
        (replace(TO_METAL, keep_s=1e9), UserError, "keep: expected 0 to 86400 s"),
        (replace(TO_METAL, drain_s=-1), UserError, "drain: expected 0 to 600 s, not -1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_at_once(
    world: World, wish: MoveWish, error: type[Exception], says: str
) -> None:
    environment = made(world)
    with pytest.raises(error, match=says):
        world.moving.move(environment.id, wish, ASKING)
    assert now(world, environment).scaling is None


def test_where_there_is_no_bare_metal_nothing_begins(tmp_path: Path) -> None:
    world = filled(tmp_path, machines=8)
    environment = made(world)
    with pytest.raises(UserError, match=r"role web cannot be moved: .*bare.metal"):
        world.moving.move(environment.id, TO_METAL, ASKING)
    assert now(world, environment).scaling is None


def test_both_sets_of_nodes_count_against_the_quota(world: World) -> None:
    environment = made(world)
    world.projects.change("shop", ProjectChange(quota={"nodes": "4"}))
    with pytest.raises(OverQuota, match="2 more nodes"):
        world.moving.move(environment.id, TO_METAL, ASKING)


def test_a_protected_environment_keeps_its_nodes(world: World) -> None:
    environment = made(world)
    world.leases.protect(environment.id, "the fair is on")
    with pytest.raises(GuardRefused, match="the fair is on"):
        world.moving.move(environment.id, TO_METAL, ASKING)
    assert now(world, environment).scaling is None


def test_what_cannot_be_built_there_leaves_everything_as_it_was(world: World) -> None:
    environment = made(world)
    before = now(world, environment)
    for one in world.inventories.view("cloud").inventory.machines:
        world.machines.refusing[one.name] = "no such key"
    world.moving.move(environment.id, TO_METAL, ASKING)
    world.advance(400)
    after = now(world, environment)
    assert after.degraded.startswith("role web was not moved to bare-metal: ")
    assert (after.nodes, after.rules, after.scaling) == (before.nodes, before.rules, None)
    assert told(world, environment)[-1] == "environment.moved"


def test_nodes_that_fail_their_tests_never_serve(world: World) -> None:
    environment = made(world, PREPARED)
    before = now(world, environment)
    world.commands.clear()
    world.program(r"\./migrate", lambda _: 0)
    world.program(r"\./check", lambda _: 1)
    world.moving.move(environment.id, TO_METAL, ASKING)
    world.advance(120)
    after = now(world, environment)
    assert "was not moved to bare-metal: run " in after.degraded
    assert after.nodes == before.nodes
    run = world.all_runs()[-1]
    assert run.stage(StageName.TEST).state is StageState.FAILED


def test_the_old_nodes_can_be_called_back_while_they_stand(world: World) -> None:
    environment = made(world)
    before = now(world, environment)
    world.moving.move(environment.id, TO_METAL, ASKING)
    world.advance(30)
    with pytest.raises(InvalidTransition, match="role db is not moved"):
        world.moving.back(environment.id, "db", ASKING)
    world.moving.back(environment.id, "web", ASKING)
    world.advance(30)
    after = now(world, environment)
    assert (after.nodes, after.rules, after.scaling) == (before.nodes, before.rules, None)
    assert after.degraded == f"role web was not moved to bare-metal: called back by {BY_HAND}: the disks are too slow"
    assert kinds(world, environment) == {"web-0": "hypervisor", "web-1": "hypervisor"}


def test_a_new_node_that_is_lost_brings_the_old_ones_back(world: World) -> None:
    environment = made(world)
    world.moving.move(environment.id, replace(TO_METAL, keep_s=600), ASKING)
    world.advance(30)
    machine = now(world, environment).named({"web-2"})[0].machine
    world.machines.dead[machine] = "its power is off"
    world.advance(200)
    after = now(world, environment)
    assert [(node.name, node.state) for node in after.of_role("web")] == [
        ("web-0", N.IN_SERVICE), ("web-1", N.IN_SERVICE)
    ]  # fmt: skip
    assert "role web was not moved to bare-metal: node web-2 is lost" in after.degraded


def in_traffic(scratch: Path) -> World:
    world = usual_world(scratch, machines=8, registered=4)
    commit(world, "v1", TWO)
    world.stagings.put("front", QUICK)
    return world


def test_a_live_slot_moves_in_traffic(tmp_path: Path) -> None:
    world = in_traffic(tmp_path)
    Watched(world)
    live(world, "v1")
    id = environment(world, BLUE)
    assert serving(world, id) == {"web-0", "web-1"}
    world.moving.move(id, TO_METAL, ASKING)
    seen = set[frozenset[str]]()
    for _ in range(40):
        world.advance(1)
        seen.add(frozenset(serving(world, id)))
    old, new = frozenset({"web-0", "web-1"}), frozenset({"web-2", "web-3"})
    assert seen == {old, old | new, new}
    world.advance(DRAIN_S + KEEP_S)
    assert [node.name for node in stands(world, BLUE).nodes if node.role == "web"] == ["web-2", "web-3"]


def test_new_nodes_that_do_not_answer_the_router_give_way_to_the_old_ones(tmp_path: Path) -> None:
    world = in_traffic(tmp_path)
    live(world, "v1")
    id = environment(world, BLUE)
    (port,) = {target.port for target in world.router.backends[id].targets}
    world.router.sick |= {Target(f"203.0.113.{number}", port) for number in range(1, 5)}
    world.moving.move(id, TO_METAL, ASKING)
    world.advance(300)
    after = stands(world, BLUE)
    assert [node.name for node in after.of_role("web")] == ["web-0", "web-1"]
    assert "last healthy node of role web" in after.degraded
    assert serving(world, id) == {"web-0", "web-1"}


# Somebody dies at every place

#: So many tests share them.
STEPS = 6


def play(world: World, request: Request) -> None:
    """Move there, and be called back; move there, and stay; be given back."""
    environment = world.requests.make(request).environment
    rest(world, environment)
    world.moving.move(environment.id, TO_METAL, ASKING)
    for _ in range(60):
        if moves.can_go_back(now(world, environment)):
            break
        world.advance(5)
    world.moving.back(environment.id, "web", ASKING)
    rest(world, environment)
    world.moving.move(environment.id, replace(TO_METAL, keep_s=10), ASKING)
    rest(world, environment)
    give_back(world, environment)


def rest(world: World, environment: Environment) -> None:
    """Until it is ready, and nothing goes on with its nodes."""
    for _ in range(100):
        found = now(world, environment)
        if found.contract is not None and found.contract.ready_at and found.scaling is None:
            return
        world.advance(5)
    raise AssertionError(f"it does not come to rest: {now(world, environment)}")


@cache
def places(request: Request) -> tuple[tuple[str, int], ...]:
    """What a play without a death passes, in order."""
    with TemporaryDirectory() as scratch:
        world = mixed(Path(scratch))
        play(world, request)
    return tuple(world.grave.counted())


@pytest.mark.parametrize("first", range(STEPS))
@pytest.mark.parametrize("request_", [INLINE, PREPARED], ids=["inline", "prepared"])
def test_a_death_anywhere_loses_nothing(tmp_path: Path, request_: Request, first: int) -> None:
    for number, (place, countdown) in enumerate(places(request_)[first::STEPS]):
        world = mixed(tmp_path / str(number))
        world.grave.dig(place, countdown)
        play(world, request_)
        (environment,) = world.all_environments()
        assert environment.state is E.DESTROYED, place
        assert (environment.degraded, environment.replaced) == ("", 0), place
        assert all(run.verdict is Verdict.PASSED for run in world.all_runs()), place
        assert not world.cloud.marks, place
        assert not [name for name in EMPTY if world.store.count(name)], place
