"""Environments that grow and shrink while they stand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.errors import (
    CapacityError,
    GuardRefused,
    InvalidTransition,
    OverQuota,
    PermanentError,
    TransientError,
    UserError,
)
from pipeline.domain.projects import ProjectChange
from pipeline.domain.resizing import MAX_REPLACED
from pipeline.domain.runs import RunState, Verdict
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND
from pipeline.stages.requests import Request
from tests.scenarios.test_kills_in_scenarios import EMPTY
from tests.scenarios.test_requests import GIVE_BACK, INLINE, PLAIN, PREPARED, filled, made, now, told
from tests.scenarios.world import World

E, N = EnvironmentState, NodeState
ASKING = Asking(BY_HAND, "the fair")
ONE_WEB: Mapping[str, Any] = {**PLAIN, "environment": {"image": "debian-12", "roles": {"web": {}}}}
SINGLE = replace(INLINE, blueprint=json.dumps(ONE_WEB))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return filled(tmp_path)


def states(environment: Environment) -> dict[str, str]:
    return {node.name: str(node.state) for node in environment.nodes}


def scaled(world: World, environment: Environment, role: str, count: int) -> Environment:
    """Wish it, and let happen what will."""
    world.scale.scale(environment.id, role, count, ASKING)
    world.settle()
    world.advance(60)
    return now(world, environment)


def servers(world: World, environment: Environment) -> list[str]:
    return sorted(name for id, name in world.cloud.nodes if id == environment.id)


def test_a_role_grows_and_shrinks(world: World) -> None:
    environment = made(world)
    before = dict(world.cloud.nodes)
    grown = scaled(world, environment, "web", 4)
    assert states(grown) == dict.fromkeys(["web-0", "web-1", "db-0", "web-2", "web-3"], "in-service")
    assert {key: world.cloud.nodes[key] for key in before} == before
    assert (grown.state, grown.scaling, grown.degraded) == (E.LEASED, None, "")
    assert told(world, environment)[-2:] == ["environment.scaling", "environment.scaled"]
    shrunk = scaled(world, environment, "web", 1)
    assert list(states(shrunk)) == ["web-0", "db-0"]
    assert servers(world, environment) == ["db-0", "web-0"]
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    assert now(world, environment).state is E.DESTROYED
    assert not world.cloud.marks


def test_what_comes_is_configured_and_deployed_and_nothing_else(world: World) -> None:
    environment = made(world, PREPARED)
    (role,) = {node.role for node in environment.nodes}
    world.transport.calls.clear()
    grown = scaled(world, environment, role, 2)
    _, run = world.all_runs()
    assert (run.verdict, run.nodes, run.environment_id) == (Verdict.PASSED, (f"{role}-1",), environment.id)
    assert run.plan.environment.role(role).count == 2
    assert set(states(grown).values()) == {"in-service"}
    assert {call.node for call in world.transport.calls} == {f"{role}-1"}
    assert (grown.state, grown.owner) == (E.LEASED, environment.owner)


# What is refused


def wish(world: World, environment: Environment, role: str, count: int, **more: str) -> Environment:
    return world.scale.scale(environment.id, role, count, replace(ASKING, overrides=more))


def test_what_cannot_be_is_refused_and_says_why(world: World) -> None:
    environment = made(world)
    with pytest.raises(UserError, match="has no role 'cache'; it has: web, db"):
        wish(world, environment, "cache", 2)
    with pytest.raises(UserError, match="would have 101 nodes, and provider cloud takes 20 in all: ask for fewer"):
        wish(world, environment, "web", 100)
    world.projects.change("shop", ProjectChange(quota={"nodes": "4"}))
    with pytest.raises(OverQuota, match=r"3 more nodes of environment .* over the project's own quota of nodes: 3 are"):
        wish(world, environment, "web", 5)
    assert wish(world, environment, "web", 3).scaling is not None
    with pytest.raises(InvalidTransition, match=r"role web is scaled to 3 .*: wait until that is over"):
        wish(world, environment, "web", 2)
    assert wish(world, environment, "web", 3).scaling is not None  # the same wish once more
    world.settle()
    assert len(now(world, environment).of_role("web")) == 3


def test_the_last_node_of_a_role_never_goes(world: World) -> None:
    environment = made(world)
    for count, role in ((0, "db"), (0, "web")):
        with pytest.raises(GuardRefused, match=r"last healthy node of role .* or destroy the whole environment"):
            wish(world, environment, role, count, **{"last-node": "whatever"})
    assert now(world, environment) == environment
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    with pytest.raises(InvalidTransition, match="is destroyed: it can be scaled while it is leased or held"):
        wish(world, environment, "web", 3)


def test_the_last_healthy_one_goes_when_it_is_not_the_last_any_more(world: World) -> None:
    environment = made(world)
    lose(world, environment, "web-0")
    world.scale.scale(environment.id, "web", 1, ASKING)
    world.settle()
    world.advance(15)
    assert [node.name for node in now(world, environment).of_role("web")] == ["web-1"]


def test_what_a_run_has_or_prepares_is_not_scaled(world: World) -> None:
    asked = world.requests.make(PREPARED).environment
    world.chef.once.append(TransientError("not now"))
    with pytest.raises(InvalidTransition, match="is requested: it can be scaled while"):
        wish(world, asked, "web", 2)


def test_a_node_that_is_served_is_not_taken_away(world: World) -> None:
    environment = made(world)
    world.router.live.add(environment.id)
    begun = wish(world, environment, "web", 1)
    assert states(begun)["web-1"] == "draining"
    world.advance(30)
    waiting = now(world, environment).scaling
    assert waiting is not None
    assert waiting.reason == "router front still sends traffic there"
    world.advance(60)
    assert now(world, environment).degraded.endswith("router front sends traffic to nodes that were to go")
    assert states(now(world, environment)) == states(environment)
    world.router.live.clear()
    assert list(states(scaled(world, environment, "web", 1))) == ["web-0", "db-0"]


def test_a_dry_run_changes_nothing(world: World) -> None:
    environment = made(world)
    dry = replace(ASKING, dry_run=True)
    more, fewer = (world.scale.scale(environment.id, "web", count, dry).scaling for count in (4, 1))
    assert more is not None
    assert fewer is not None
    assert (more.coming, fewer.going) == (("web-2", "web-3"), ("web-1",))
    world.settle()
    assert now(world, environment) == environment


# What fails


@pytest.mark.parametrize("fault", [PermanentError("no such image"), TransientError("no answer"), CapacityError("full")])
def test_old_nodes_are_not_touched_when_new_ones_fail(world: World, fault: Exception) -> None:
    environment = made(world)
    before = dict(world.cloud.nodes)
    assert isinstance(fault, PermanentError | TransientError | CapacityError)
    world.cloud.fail_create += [fault] * 50
    world.scale.scale(environment.id, "web", 4, ASKING)
    world.advance(1200)
    after = now(world, environment)
    assert str(fault) in after.degraded
    assert (after.scaling, after.state, after.nodes) == (None, E.LEASED, environment.nodes)
    assert world.cloud.nodes == before


def test_a_node_that_comes_up_broken_goes_again(world: World) -> None:
    environment = made(world)
    world.cloud.faults = {"web-3": "the disk is read-only"}
    after = scaled(world, environment, "web", 4)
    assert after.degraded == "4 nodes of role web: node web-3: the disk is read-only"
    assert servers(world, environment) == ["db-0", "web-0", "web-1"]
    world.cloud.faults = {}
    assert scaled(world, environment, "web", 4).degraded == ""


def test_a_node_that_cannot_be_prepared_goes_again(world: World) -> None:
    environment = made(world, PREPARED)
    world.commands.clear()
    world.program("./migrate", lambda _: 3)
    after = scaled(world, environment, "web", 2)
    _, run = world.all_runs()
    assert (run.verdict, run.state) == (Verdict.FAILED, RunState.FINISHED)
    assert "`./migrate` failed with exit status 3" in after.degraded
    assert (after.state, servers(world, environment)) == (E.LEASED, ["web-0"])


def test_what_is_cancelled_goes_again(world: World) -> None:
    environment = made(world, PREPARED)
    world.cloud.slow = True
    begun = world.scale.scale(environment.id, "web", 2, ASKING)
    world.settle()
    assert begun.scaling is not None
    world.control.cancel(begun.scaling.run)
    world.cloud.finish()
    world.advance(10)
    assert "cancelled" in now(world, environment).degraded
    assert (now(world, environment).state, servers(world, environment)) == (E.LEASED, ["web-0"])


def test_an_end_ends_a_scaling(world: World) -> None:
    environment = made(world, PREPARED)
    world.cloud.slow = True
    world.scale.scale(environment.id, "web", 2, ASKING)
    world.settle()
    world.requests.release(environment.id, GIVE_BACK)
    world.advance(60)
    assert now(world, environment).state is E.DESTROYED
    assert all(run.state is RunState.FINISHED for run in world.all_runs())
    assert not world.cloud.marks


def test_room_is_waited_for_and_given_up(tmp_path: Path) -> None:
    world = filled(tmp_path, machines=3)
    environment = made(world)
    world.scale.scale(environment.id, "web", 3, ASKING)
    world.advance(10)
    waiting = now(world, environment).scaling
    assert waiting is not None
    assert waiting.reason.startswith("waits for room: ")
    world.advance(150)
    assert "waits for room" in now(world, environment).degraded
    assert len(now(world, environment).nodes) == 3


def test_room_that_the_provider_finds_missing_late_is_waited_for(world: World) -> None:
    environment = made(world)
    world.cloud.faults, world.cloud.full = {"web-3": "Quota exceeded for instances"}, {"web-3"}
    waiting = scaled(world, environment, "web", 4).scaling
    assert waiting is not None
    assert waiting.reason.startswith("waits for room: node web-3: Quota exceeded")
    world.cloud.faults = {}
    world.advance(10)
    after = now(world, environment)
    assert (after.scaling, after.degraded, len(after.of_role("web"))) == (None, "", 4)
    assert states(after) == dict.fromkeys(states(after), "in-service")
    assert servers(world, environment) == sorted(node.name for node in after.nodes)


def test_room_that_stays_missing_is_given_up(world: World) -> None:
    environment = made(world)
    before = dict(world.cloud.nodes)
    world.cloud.faults, world.cloud.full = {"web-3": "Quota exceeded for instances"}, {"web-3"}
    world.scale.scale(environment.id, "web", 4, ASKING)
    world.advance(300)
    after = now(world, environment)
    assert after.degraded == "4 nodes of role web: not ready after 120 s: node web-3: Quota exceeded for instances"
    assert (after.scaling, after.nodes) == (None, environment.nodes)
    assert world.cloud.nodes == before


def test_capacity_follows(tmp_path: Path) -> None:
    world = filled(tmp_path, machines=4)
    environment = made(world)
    grown = scaled(world, environment, "web", 3)
    assert sorted(node.machine for node in grown.nodes) == ["m1", "m2", "m3", "m4"]
    other = made(world, replace(INLINE, name="other"))
    assert other.state is E.REQUESTED
    scaled(world, environment, "web", 1)
    fits = made(world, replace(SINGLE, name="fits"))
    assert fits.state is E.LEASED


# Nodes that die


def lose(world: World, environment: Environment, *names: str) -> None:
    """Let nodes die, and be missed twice, but not be replaced yet."""
    for name in names:
        del world.cloud.nodes[environment.id, name]
    for _ in range(2):
        world.work.watch_provider("cloud")
        world.clock.sleep(5)


def test_a_lost_node_is_replaced(world: World) -> None:
    environment = made(world)
    del world.cloud.nodes[environment.id, "web-1"]
    world.advance(40)
    after = now(world, environment)
    assert set(states(after).values()) == {"in-service"}
    assert (after.replaced, after.degraded, after.scaling) == (1, "", None)
    old, new = ({node.name: node.driver_id for node in one.nodes} for one in (environment, after))
    assert {name for name in old if old[name] != new[name]} == {"web-1"}
    assert told(world, environment)[-3:] == ["environment.node-lost", "environment.scaling", "environment.scaled"]


def test_a_lost_node_is_prepared_like_the_first(world: World) -> None:
    environment = made(world, PREPARED)
    world.transport.calls.clear()
    del world.cloud.nodes[environment.id, "web-0"]
    world.advance(60)
    _, run = world.all_runs()
    assert (run.verdict, run.nodes) == (Verdict.PASSED, ("web-0",))
    assert {call.node for call in world.transport.calls} == {"web-0"}
    assert states(now(world, environment)) == {"web-0": "in-service"}


def test_what_is_lost_again_and_again_is_for_a_person(world: World) -> None:
    environment = made(world)
    world.cloud.faults = {"web-1": "the disk is read-only"}
    del world.cloud.nodes[environment.id, "web-1"]
    world.advance(600)
    after = now(world, environment)
    assert (after.replaced, after.state) == (MAX_REPLACED, E.LEASED)
    assert "node web-1 is lost: " in after.degraded
    assert "which is the most: scale it, or release it" in after.degraded
    assert servers(world, environment) == ["db-0", "web-0"]
    world.cloud.faults = {}
    shrunk = scaled(world, environment, "web", 1)
    assert (list(states(shrunk)), shrunk.degraded) == (["web-0", "db-0"], "")


def test_a_listing_that_shows_next_to_nothing_is_not_believed(world: World) -> None:
    environment = made(world)
    scaled(world, environment, "web", 4)
    kept = dict(world.cloud.nodes)
    world.cloud.nodes.clear()
    world.advance(60)
    assert set(states(now(world, environment)).values()) == {"in-service"}
    world.cloud.nodes.update(kept)


def test_a_node_that_is_missed_once_is_not_lost(world: World) -> None:
    environment = made(world)
    view = world.cloud.nodes.pop((environment.id, "web-1"))
    world.work.watch_provider("cloud")
    world.cloud.nodes[environment.id, "web-1"] = view
    world.advance(60)
    assert now(world, environment).replaced == 0


# Somebody dies at every place


def play(world: World, request: Request) -> None:
    """Grow, lose a node, shrink, be given back."""
    environment = world.requests.make(request).environment
    rest(world, environment, 1)
    for count in (3, 1):
        world.scale.scale(environment.id, "web", count, ASKING)
        rest(world, environment, count)
        if count == 3:
            world.cloud.nodes.pop((environment.id, "web-2"))
            world.advance(12)
            rest(world, environment, count)
    give_back(world, environment)


def give_back(world: World, environment: Environment) -> None:
    """Until nothing of it, and no run, goes on."""
    world.requests.release(environment.id, GIVE_BACK)
    for _ in range(100):
        if now(world, environment).final and all(run.state is RunState.FINISHED for run in world.all_runs()):
            break
        world.advance(5)


def rest(world: World, environment: Environment, count: int) -> None:
    """Until it has so many nodes of role web, and nothing goes on."""
    for _ in range(100):
        found = now(world, environment)
        webs = [node for node in found.of_role("web") if node.state is N.IN_SERVICE]
        ready = found.contract is not None and found.contract.ready_at
        if ready and found.scaling is None and len(webs) == count == len(found.of_role("web")):
            return
        world.advance(5)
    raise AssertionError(f"it does not come to rest: {now(world, environment)}")


@cache
def places(request: Request) -> tuple[tuple[str, int], ...]:
    """What a play without a death passes, in order."""
    with TemporaryDirectory() as scratch:
        world = filled(Path(scratch))
        play(world, request)
    return tuple(world.grave.counted())


@pytest.mark.parametrize("request_", [SINGLE, PREPARED], ids=["inline", "prepared"])
def test_a_death_anywhere_loses_nothing(tmp_path: Path, request_: Request) -> None:
    for number, (place, countdown) in enumerate(places(request_)):
        world = filled(tmp_path / str(number))
        world.grave.dig(place, countdown)
        play(world, request_)
        (environment,) = world.all_environments()
        assert environment.state is E.DESTROYED, place
        assert (environment.degraded, environment.replaced) == ("", 1), place
        assert all(run.verdict is Verdict.PASSED for run in world.all_runs()), place
        assert not world.cloud.marks, place
        assert not [name for name in EMPTY if world.store.count(name)], place
