"""Ends of environments on request: each in its time, none early, whoever dies meanwhile and however much is built."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.leases import LIVING
from pipeline.envs import jobs
from pipeline.ports.drivers import EnvironmentRequest
from tests.scenarios.player import usual_world
from tests.scenarios.test_requests import GIVE_BACK, INLINE, PLAIN
from tests.scenarios.world import OFFICE_S, MortalDriver, World

E = EnvironmentState
COUNT, LATE_S = 24, 5.0
ONE_NODE = replace(INLINE, blueprint=json.dumps({**PLAIN, "environment": {"image": "debian-12", "roles": {"web": {}}}}))
#: Somebody dies so often, in seconds, at one of these places.
DEATH_S = 6
PLACES = (
    *(f"{who} {when} write" for who in ("tick", "worker") for when in ("before", "after")),
    *(f"{when} {act}" for act in ("create", "destroy") for when in ("before", "after")),
    "tick before drop",
)


@dataclass
class Life:
    """An environment, what is done with it at which part of its time, and when it is due by that."""

    id: str
    ttl_s: int
    wish: str
    when: float
    more_s: int
    due: float = 0.0
    act_at: float = 0.0
    back_at: float = 0.0


def asked(world: World, dice: random.Random) -> Iterator[Life]:
    for _ in range(COUNT):
        wish = dice.choice(("nothing", "extend", "hold", "release", "protect"))
        ttl_s = dice.randint(20, 120)
        made = world.requests.make(replace(ONE_NODE, ttl_s=ttl_s)).environment
        yield Life(made.id, ttl_s, wish, dice.uniform(0.1, 0.8), dice.randint(5, 60))


def act(world: World, one: Life) -> None:
    now = world.clock.now()
    if one.wish == "extend":
        one.due = world.leases.extend(one.id, one.more_s).ends_at
    elif one.wish == "hold":
        one.due = world.leases.hold(one.id, one.due - now + one.more_s, "a bug").ends_at
    elif one.wish == "release":
        one.due = now
        world.requests.release(one.id, GIVE_BACK)
    elif one.wish == "protect":
        world.leases.protect(one.id, "a demo")
        one.back_at = one.due + one.more_s
        one.due = one.back_at


def live(world: World, all_: list[Life], bound_s: float, dice: random.Random | None) -> None:
    """Second by second, until nothing is left."""
    for second in range(600):
        if dice is not None and second % DEATH_S == 0:
            world.grave.dig(dice.choice(PLACES), dice.randint(1, 4))
        world.advance(1)
        found = {one.id: world.books.environments.get(one.id).value for one in all_}
        for one in all_:
            look(world, one, found[one.id], bound_s)
        if all(environment.state is E.DESTROYED for environment in found.values()):
            return
    raise AssertionError(f"some are left: {[environment for environment in found.values() if not environment.final]}")


def look(world: World, one: Life, environment: Environment, bound_s: float) -> None:
    now, contract = world.clock.now(), environment.contract
    assert contract is not None
    if not contract.began_at:
        return
    if not one.due:
        one.due = contract.began_at + one.ttl_s
        one.act_at = contract.began_at + one.when * one.ttl_s
    if now < one.due:
        assert environment.state in LIVING, f"early: {one} at {now}: {environment}"
    if now > one.due + bound_s and not one.back_at:
        assert environment.state not in LIVING, f"late: {one} at {now}: {environment}"
    if one.act_at and one.act_at <= now < one.due:
        one.act_at = 0.0
        act(world, one)
    if one.back_at and now >= one.back_at:
        one.due, one.back_at = now, 0.0
        world.leases.protect(one.id, "")


@pytest.mark.parametrize("seed", range(3))
def test_each_ends_in_its_time_and_every_wish_is_honoured(tmp_path: Path, seed: int) -> None:
    world, dice = usual_world(tmp_path, max_nodes=COUNT), random.Random(seed)
    live(world, list(asked(world, dice)), LATE_S, None)
    assert not world.cloud.marks


@pytest.mark.parametrize("seed", range(6))
def test_so_it_is_when_ticks_and_workers_die_all_the_while(tmp_path: Path, seed: int) -> None:
    world, dice = usual_world(tmp_path, max_nodes=COUNT), random.Random(seed)
    live(world, list(asked(world, dice)), LATE_S + OFFICE_S, dice)
    assert not world.cloud.marks


def test_what_is_protected_is_not_looked_at_again_and_again(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    made = world.requests.make(replace(ONE_NODE, ttl_s=60)).environment
    world.settle()
    world.leases.protect(made.id, "a demo")
    world.clock.sleep(120)
    assert world.books.environments.due("environments:ending", world.clock.now()) == []
    world.leases.protect(made.id, "")
    assert [one.value.id for one in world.books.environments.due("environments:ending", world.clock.now())] == [made.id]


def test_what_goes_does_not_wait_behind_what_comes(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    goes = world.requests.make(ONE_NODE).environment
    world.settle()
    comes = world.requests.make(ONE_NODE).environment
    world.requests.release(goes.id, GIVE_BACK)
    for _ in range(2):  # a place is found, then the work is handed over
        world.tick.step(world.fence)
    queues = {job.args[0]: job.queue for job in world.queue.jobs if job.task == "advance_environment"}
    assert queues == {comes.id: jobs.provider_queue("cloud"), goes.id: jobs.ending_queue("cloud")}


def test_a_poll_ends_after_a_while_and_goes_on_at_the_next_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = usual_world(tmp_path)
    three = [world.requests.make(ONE_NODE).environment.id for _ in range(3)]
    world.tick.step(world.fence)  # they have their places; the jobs that build them are lost
    world.queue.jobs.clear()
    create = MortalDriver.create

    def slowly(driver: MortalDriver, request: EnvironmentRequest) -> None:
        world.clock.sleep(0.6)
        create(driver, request)

    monkeypatch.setattr(MortalDriver, "create", slowly)
    world.clock.sleep(2)
    assert len(world.work.lifecycle.poll("cloud")) == 2
    assert len(world.work.lifecycle.poll("cloud")) == 1
    assert {world.books.environments.get(id).value.state for id in three} == {E.LEASED}
