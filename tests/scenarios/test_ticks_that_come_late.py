"""A tick stops in the middle of its round, another one takes over, and the first goes on with what it saw before."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.errors import InvalidTransition
from pipeline.domain.runs import StageName, Verdict
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

#: Looks after which a tick stops; the decisions of both tests lie among them.
LOOKS = range(1, 21)


def usual(class_: str, **more: Any) -> dict[str, Any]:
    roles = {"web": {"script": "setup.sh", "qos": {"class": class_}}}
    return {**USUAL, "environment": {"image": "debian-12", "roles": roles}, **more}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path), max_nodes=1)
    world.project("shop")
    world.program(r"\./migrate", lambda _: 0)
    world.program(r"\./check", lambda _: 0)
    return world


def pause(world: World, looks: int, meanwhile: Callable[[], None]) -> None:
    """Let the next round of the tick stop after so many looks, while another one leads."""

    def with_another() -> None:
        world.store.writer = "world"
        world.take_over()
        meanwhile()
        world.store.writer = "tick"

    world.clock.sleep(1)
    world.grave.pause(world.grave.looks + looks, with_another)
    world.settle()


def verdicts(world: World) -> list[tuple[Verdict | None, str]]:
    return [(run.verdict, run.reason) for run in world.all_runs()]


@pytest.mark.parametrize("looks", LOOKS)
def test_a_run_that_began_again_has_its_whole_time(world: World, looks: int) -> None:
    world.cloud.slow = True
    world.push("shop", usual("best-effort", timeout="60s"))
    world.settle()

    def it_is_taken_back_and_begins_again() -> None:
        world.push("shop", usual("guaranteed"), branch="other")
        world.advance(33)
        world.cloud.finish()
        world.advance(35)

    pause(world, looks, it_is_taken_back_and_begins_again)
    world.cloud.finish()
    world.cloud.slow = False
    world.advance(60)
    assert verdicts(world) == [(Verdict.PASSED, ""), (Verdict.PASSED, "")]


@pytest.mark.parametrize("looks", LOOKS)
def test_nodes_that_were_taken_over_stay(world: World, looks: int) -> None:
    """Their hold ended at the very moment when a new run took them."""
    status = [1]
    world.commands.clear()
    world.program(r"\./migrate", lambda _: 0)
    world.program(r"\./check", lambda _: status[0])
    world.push("shop", usual("burstable", destroy={"on_failure": {"hold": "60s"}}))
    world.settle()
    status[0] = 0
    first = world.all_runs()[0]
    world.clock.sleep(59)

    def it_is_run_again() -> None:
        with suppress(InvalidTransition):  # the nodes may be on their way out by now
            world.control.rerun(first.id, StageName.TEST)

    pause(world, looks, it_is_run_again)
    world.advance(10)
    assert [run.verdict for run in world.all_runs()[1:]] in ([], [Verdict.PASSED]), verdicts(world)
