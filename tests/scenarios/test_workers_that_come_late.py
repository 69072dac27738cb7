"""A worker's call of the driver takes so long that others have gone on meanwhile; what it does then hurts nobody."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.domain.errors import CapacityError, InfraError, PermanentError, TransientError
from pipeline.domain.runs import Verdict
from pipeline.ports.drivers import EnvironmentRequest, Listing
from tests.scenarios.expectations import check
from tests.scenarios.player import USUAL
from tests.scenarios.world import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path), machines=2)
    world.project("shop")
    world.program(r"\./migrate", lambda _: 0)
    return world


def others_go_on(world: World, seconds: float) -> None:
    writer, world.store.writer = world.store.writer, "world"
    world.advance(seconds)
    world.store.writer = writer


ANSWERS = [TransientError("no answer"), PermanentError("no such thing"), CapacityError("full")]


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda error: error.code)
def test_a_build_whose_answer_comes_too_late_is_not_taken_back(
    world: World, answer: InfraError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The provider made the nodes, others saw them and went on; then the call fails after all."""
    driver = world.provider.driver.driver  # type: ignore[attr-defined]  # what is watched
    create: Callable[[EnvironmentRequest], None] = driver.create

    def late(request: EnvironmentRequest) -> None:
        monkeypatch.setattr(driver, "create", create)
        create(request)
        others_go_on(world, 20)
        raise answer

    monkeypatch.setattr(driver, "create", late)
    world.program(r"\./check", lambda _: 1)
    world.push("shop", {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}})
    world.settle()
    check(world, {"environments": ["held"], "servers": 1, "runs": [{"verdict": Verdict.FAILED}]})
    world.advance(1850)
    check(world, {"environments": ["destroyed"], "servers": 0, "made": 1})


def test_a_build_that_is_begun_again_keeps_its_keys(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that was begun for the first build may make the nodes late: those of the second can be logged in to."""
    driver = world.provider.driver.driver  # type: ignore[attr-defined]  # what is watched
    create: Callable[[EnvironmentRequest], None] = driver.create
    asked: list[EnvironmentRequest] = []

    def fails_once(request: EnvironmentRequest) -> None:
        asked.append(request)
        if len(asked) == 1:
            raise TransientError("no answer")
        create(request)

    monkeypatch.setattr(driver, "create", fails_once)
    world.program(r"\./check", lambda _: 0)
    world.push("shop", USUAL)
    world.advance(60)
    first, second = asked
    assert first.authorized_key == second.authorized_key
    assert [node.host_public_key for node in first.nodes] == [node.host_public_key for node in second.nodes]
    assert [node.host_key.reveal() for node in first.nodes] == [node.host_key.reveal() for node in second.nodes]


def test_what_was_seen_too_long_ago_takes_nothing_back(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node was seen to be broken; before its build is taken back, others did so, and built elsewhere."""
    world.cloud.bad_machines = {"m1": "the disk is read-only"}
    driver = world.provider.driver.driver  # type: ignore[attr-defined]  # what is watched
    list_: Callable[[], Listing] = driver.list

    def late() -> Listing:
        seen = list_()
        if seen.nodes:
            monkeypatch.setattr(driver, "list", list_)
            others_go_on(world, 20)
        return seen

    monkeypatch.setattr(driver, "list", late)
    world.program(r"\./check", lambda _: 1)
    world.push("shop", {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}})
    world.settle()
    check(world, {"environments": ["held"], "servers": 1, "runs": [{"verdict": Verdict.FAILED}]})
