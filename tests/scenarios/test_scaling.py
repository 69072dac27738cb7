"""Environments that grow and shrink while they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.runs import Verdict
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND
from tests.scenarios.test_requests import GIVE_BACK, PREPARED, filled, made, now, told
from tests.scenarios.world import World

E, N = EnvironmentState, NodeState
ASKING = Asking(BY_HAND, "the fair")


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
