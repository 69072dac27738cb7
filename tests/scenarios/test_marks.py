"""Ends that marks tell: with empty books, what lives is adopted until its time is over, and the rest is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.breakers import FAILURES, Call
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, PermanentError, TransientError
from pipeline.domain.moments import NEVER
from pipeline.envs.calls import Breakers
from pipeline.envs.gate import Asking
from pipeline.envs.marks import SLACK_S
from pipeline.stages.control import BY_HAND
from pipeline.stages.tick import REAP_S
from tests.scenarios.player import usual_world
from tests.scenarios.test_leases import ONE_NODE
from tests.scenarios.test_requests import GIVE_BACK, PLAIN, made, now
from tests.scenarios.world import World

E = EnvironmentState
TTL_S = 1800
#: Until the reaper looked twice, and whatever it began is over.
REAPED_S = 3 * REAP_S
SHORT = replace(ONE_NODE, ttl_s=TTL_S)
#: What may become of the time of an environment, and whether it goes on for another hour after its first end.
CHANGES: Mapping[str, tuple[Callable[[World, str], object], bool]] = {
    "nothing": (lambda world, one: world.books.environments.get(one), False),
    "extended": (lambda world, one: world.leases.extend(one, 3600), True),
    "held": (lambda world, one: world.leases.hold(one, TTL_S + 3600, "a bug"), True),
    "protected": (lambda world, one: world.leases.protect(one, "a demo"), True),
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return usual_world(tmp_path)


def emptied(world: World, scratch: Path, environment: Environment) -> World:
    """A world with the same cloud and empty books, looked at when the first end of an environment is over."""
    fresh = usual_world(scratch)
    fresh.clock.sleep(environment.ends_at + 1 - fresh.clock.now())
    fresh.cloud.marks, fresh.cloud.nodes = world.cloud.marks, world.cloud.nodes
    fresh.advance(REAPED_S)
    return fresh


def end_of(world: World, id: str) -> float:
    """As the cloud has it."""
    return world.cloud.marks[id][1]


def lives_on(world: World, environment: Environment) -> bool:
    """Whether it was adopted, and its nodes are there."""
    found = world.books.environments.find(environment.id)
    there = any(id == environment.id for id, _ in world.cloud.nodes)
    assert (found is not None and found.value.state is E.ADOPTED) == there
    return there


@pytest.mark.parametrize("change", CHANGES)
def test_an_empty_store_ends_nothing_before_its_time(change: str, world: World, tmp_path: Path) -> None:
    environment = made(world, SHORT)
    act, goes_on = CHANGES[change]
    act(world, environment.id)
    world.advance(REAP_S + 1)
    fresh = emptied(world, tmp_path, environment)
    assert lives_on(fresh, environment) == goes_on


def test_what_was_adopted_ends_when_its_time_does(world: World, tmp_path: Path) -> None:
    environment = made(world, SHORT)
    world.leases.extend(environment.id, 3600)
    world.advance(REAP_S + 1)
    fresh = emptied(world, tmp_path, environment)
    assert lives_on(fresh, environment)
    fresh.advance(3600)
    assert now(fresh, environment).state is E.DESTROYED
    assert not fresh.cloud.marks


def test_what_was_protected_stays_until_an_operator_ends_it(world: World, tmp_path: Path) -> None:
    environment = made(world, replace(SHORT, protected="a demo"))
    assert end_of(world, environment.id) == NEVER
    fresh = emptied(world, tmp_path, environment)
    assert lives_on(fresh, environment)
    with pytest.raises(GuardRefused, match="it is protected: so it was in the books that are lost"):
        fresh.reaper.take_back(environment.id, Asking(BY_HAND, "a guess"))
    forced = Asking(BY_HAND, "nobody's", {"protected": "the demo is over"})
    fresh.reaper.take_back(environment.id, forced)
    fresh.settle()
    assert now(fresh, environment).state is E.DESTROYED


def test_what_is_protected_no_more_has_its_end_again(world: World) -> None:
    environment = made(world, replace(SHORT, protected="a demo"))
    world.leases.protect(environment.id, "")
    world.advance(REAP_S + 1)
    assert end_of(world, environment.id) == environment.ends_at


@pytest.mark.parametrize("place", ["before mark", "after mark"])
def test_whoever_dies_at_it_leaves_it_to_the_next(place: str, world: World) -> None:
    environment = made(world, SHORT)
    end = world.leases.extend(environment.id, 3600).ends_at
    world.grave.dig(place)
    world.advance(REAP_S + 1)
    assert world.grave.where is None, "nobody died"
    assert (end_of(world, environment.id) == end) == (place == "after mark")
    world.advance(REAP_S)
    assert end_of(world, environment.id) == end
    assert world.grave.passed.count("before mark") == (2 if place == "before mark" else 1)


def test_a_mark_that_cannot_be_written_keeps_no_other(world: World) -> None:
    ids = [made(world, SHORT).id for _ in range(3)]
    ends = {id: world.leases.extend(id, 3600).ends_at for id in ids}
    world.cloud.fail_mark.extend([TransientError("no answer"), PermanentError("not allowed")])
    world.advance(REAP_S + 1)
    assert [end_of(world, id) == ends[id] for id in ids] == [False, False, True]
    world.advance(REAP_S)
    assert {id: end_of(world, id) for id in ids} == ends
    assert not world.broken


def test_marks_that_cannot_be_written_keep_no_leak(world: World) -> None:
    ids = [made(world, SHORT).id for _ in range(FAILURES + 1)]
    for id in ids:
        world.leases.extend(id, 3600)
    world.cloud.marks["env-leak"] = ("world", world.clock.now() - 1)
    world.cloud.fail_mark.extend([TransientError("no answer")] * 1000)
    world.advance(REAPED_S)
    assert list(world.cloud.marks) == ids
    assert Breakers(world.books, world.clock).of("cloud")[Call.MARK].pauses


def test_a_mark_that_is_right_is_left_alone(world: World) -> None:
    environment = made(world, SHORT)
    world.leases.extend(environment.id, SLACK_S)
    world.advance(REAPED_S)
    assert "before mark" not in world.grave.passed


def test_what_goes_is_not_marked(world: World) -> None:
    environment = made(world, SHORT)
    world.leases.extend(environment.id, 3600)
    world.cloud.fail_destroy.extend([TransientError("no answer")] * 100)
    world.requests.release(environment.id, GIVE_BACK)
    world.advance(REAPED_S)
    assert now(world, environment).state is E.DESTROYING
    assert "before mark" not in world.grave.passed


def test_a_registered_machine_remembers_the_new_end(tmp_path: Path) -> None:
    world = usual_world(tmp_path, registered=1)
    environment = made(world, SHORT)
    end = world.leases.extend(environment.id, 3600).ends_at
    world.machines.dead["m1"] = "its network is slow"
    world.reaper.reap("cloud")
    assert world.machines.marks["m1"].ends_at == environment.ends_at
    del world.machines.dead["m1"]
    world.reaper.reap("cloud")
    assert world.machines.marks["m1"].ends_at == end
    assert environment.public_key in world.machines.keys["m1"]
    assert [one.ends_at for one in world.provider.driver.list().environments] == [end]


def test_where_one_machine_tells_the_new_end_it_counts(tmp_path: Path) -> None:
    world = usual_world(tmp_path, registered=2)
    roles = {"web": {"count": 2}}
    pair = replace(SHORT, blueprint=json.dumps({**PLAIN, "environment": {"image": "debian-12", "roles": roles}}))
    environment = made(world, pair)
    end = world.leases.extend(environment.id, 3600).ends_at
    world.machines.dead["m1"] = "its disk is full"
    world.reaper.reap("cloud")
    assert [world.machines.marks[name].ends_at for name in ("m1", "m2")] == [environment.ends_at, end]
    assert [one.ends_at for one in world.provider.driver.list().environments] == [end]
