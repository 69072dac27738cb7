"""Builds that miss a deadline on their way: not accepted, not active, not answering."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.environments import Environment
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.milestones import Deadlines
from pipeline.domain.runs import Verdict
from pipeline.envs.gate import Asking
from pipeline.ports.drivers import NodeView
from pipeline.stages.control import BY_HAND
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.test_requests import filled, made, now
from tests.scenarios.world import World

#: Seconds; the whole is never what is over first.
DEADLINES = Deadlines(build=1000.0, accepted=20.0, active=60.0, answering=40.0)


def patient(world: World, deadlines: Deadlines = DEADLINES) -> World:
    world.provider = replace(world.provider, deadlines=deadlines)
    return world


def pushed(world: World, seconds: float) -> Environment:
    """The environment of a push, so many seconds later."""
    world.push("shop", USUAL)
    world.advance(seconds)
    (environment,) = world.all_environments()
    return environment


def test_nodes_that_the_provider_never_shows_are_taken_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = patient(usual_world(tmp_path))

    def none(_: object) -> Sequence[NodeView]:
        return ()

    with monkeypatch.context() as blind:
        blind.setattr("pipeline.adapters.drivers.memory.MemoryDriver.nodes", none)
        assert pushed(world, 15).placed_again == 0
        world.advance(10)
        (environment,) = world.all_environments()
        assert environment.placed_again == 1
    world.advance(60)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.PASSED, run.reason


def test_nodes_that_do_not_get_active_are_taken_elsewhere(tmp_path: Path) -> None:
    world = patient(usual_world(tmp_path))
    world.cloud.slow = True
    assert pushed(world, 50).placed_again == 0
    world.cloud.slow = False
    world.advance(90)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.PASSED, run.reason
    (environment,) = world.all_environments()
    assert environment.placed_again == 1


def test_the_time_to_a_milestone_begins_at_the_one_before(tmp_path: Path) -> None:
    world = patient(usual_world(tmp_path))
    world.cloud.slow = True
    world.transport.unreachable = {"web-0": "connection refused"}
    pushed(world, 50)
    world.cloud.finish()
    world.advance(35)
    (environment,) = world.all_environments()
    assert (environment.placed_again, environment.reason) == (0, "node web-0 does not answer: connection refused")
    world.cloud.slow = False
    world.advance(600)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.ERROR
    why = "not answering after 40 s: node web-0 does not answer: connection refused; it was placed 4 times"
    assert why in run.reason


def test_nodes_that_come_later_have_the_same_deadlines(tmp_path: Path) -> None:
    world = patient(filled(tmp_path))
    environment = made(world)
    world.transport.unreachable = {"web-3": "connection refused"}
    world.scale.scale(environment.id, "web", 4, Asking(BY_HAND, "the fair"))
    world.advance(30)
    assert now(world, environment).scaling is not None
    world.advance(30)
    after = now(world, environment)
    told = "4 nodes of role web: not answering after 40 s: node web-3 does not answer: connection refused"
    assert (after.scaling, after.degraded) == (None, told)


def test_the_whole_bounds_them_all(tmp_path: Path) -> None:
    world = patient(usual_world(tmp_path), replace(DEADLINES, build=30.0))
    world.cloud.slow = True
    assert pushed(world, 25).placed_again == 0
    world.advance(10)
    (environment,) = world.all_environments()
    assert environment.placed_again == 1


EXPIRED = "401: the credential has expired"


def test_a_provider_that_lists_nothing_is_named_and_its_builds_have_their_time(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    world.cloud.slow = True
    pushed(world, 5)
    world.cloud.fail_list += [PermanentError(EXPIRED)] * 2000
    world.advance(60)
    (environment,) = world.all_environments()
    assert (environment.reason, environment.placed_again) == (EXPIRED, 0)
    world.advance(70)
    world.cloud.fail_list.clear()
    world.advance(70)
    (run,) = world.all_runs()
    assert run.verdict is Verdict.ERROR
    assert f"not ready after 120 s: {EXPIRED}; nor could it be undone: {EXPIRED}" in run.reason


def test_what_stood_already_when_its_provider_lists_again_is_taken_as_it_is(tmp_path: Path) -> None:
    world = patient(usual_world(tmp_path))
    world.cloud.slow = True
    pushed(world, 5)
    world.cloud.fail_list += [PermanentError(EXPIRED)] * 30
    world.cloud.finish()
    world.advance(120)
    (run,) = world.all_runs()
    assert (run.verdict, world.cloud.made) == (Verdict.PASSED, 1)


def test_nodes_that_come_later_and_cannot_be_listed_have_their_time(tmp_path: Path) -> None:
    world = filled(tmp_path)
    environment = made(world)
    world.cloud.slow = True
    world.scale.scale(environment.id, "web", 4, Asking(BY_HAND, "the fair"))
    world.advance(5)
    world.cloud.fail_list += [PermanentError(EXPIRED)] * 2000
    world.advance(30)
    scaling = now(world, environment).scaling
    assert scaling is not None
    assert scaling.reason == EXPIRED
    world.advance(120)
    world.cloud.fail_list.clear()
    world.advance(30)
    assert now(world, environment).degraded == f"4 nodes of role web: not ready after 120 s: {EXPIRED}"


def test_nothing_is_judged_while_a_provider_is_left_alone(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    world.cloud.slow = True
    pushed(world, 5)
    world.cloud.fail_list += [TransientError("the API is down")] * 8
    world.cloud.finish()
    world.advance(130)
    (environment,) = world.all_environments()
    assert (environment.reason, environment.placed_again) == ("the API is down", 0)
    world.advance(200)
    (run,) = world.all_runs()
    assert (run.verdict, world.cloud.made) == (Verdict.PASSED, 1)
