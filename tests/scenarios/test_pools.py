"""Warm pools: kept full, handed out once, taken back; with somebody's death at every place in between."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.adapters.transports.memory import Call
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import AlreadyExists, InvalidTransition, NotFound, OverQuota, UserError
from pipeline.domain.inventory import MachineState
from pipeline.domain.pools import BACK_OFF_S, MOST_OFF_S, RENEW_S
from pipeline.domain.projects import ProjectChange
from pipeline.domain.runs import Verdict
from pipeline.domain.warm import CHECK_S, CLAIM_S
from pipeline.envs.gate import Asking
from pipeline.envs.pools import State
from pipeline.stages.control import BY_HAND
from pipeline.stages.requests import CLAIMS, Answer, Request
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.test_kills_in_scenarios import EMPTY
from tests.scenarios.test_requests import KEY, PLAIN, told
from tests.scenarios.world import WorkerKilled, World, repository_of

E = EnvironmentState
HOUR = 3600.0
ASKED = Request("shop", "ada", template="pair", keys=(KEY,))
BY_AN_OPERATOR = Asking(BY_HAND, "a test")
ONE: Mapping[str, Any] = {**PLAIN, "environment": {"image": "debian-12", "roles": {"web": {}}}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return pooled(tmp_path)


def pooled(scratch: Path, ready: int = 2, most: int = 6, template: Mapping[str, Any] = PLAIN, **settings: int) -> World:
    """A project whose template `pair` is kept ready so many times."""
    world = usual_world(scratch, **settings)
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    world.templates.keep("pair", json.dumps(template))
    world.pools.set("pairs", "shop", "pair", ready, most, HOUR)
    world.advance(3)
    return world


def state(world: World) -> State:
    return world.pools.state("pairs")


def stock(world: World) -> list[Environment]:
    return [one for one in world.all_environments() if one.unclaimed and one.state is E.READY]


def now(world: World, environment: Environment) -> Environment:
    return world.books.environments.get(environment.id).value


def expect_keys(world: World, environment: Environment, keys: tuple[str, ...] = (KEY,)) -> None:
    """Greenroom's own key and these, and nothing else, on every node."""
    lines = "".join(f"{line}\n" for line in (environment.public_key, *keys))
    assert {world.login_keys[environment.id, node.name] for node in environment.nodes} == {lines}


def test_a_pool_is_filled_and_handed_out_and_filled_again(world: World) -> None:
    assert (state(world).ready, state(world).preparing, state(world).short) == (2, 0, ())
    assert {one.priority for one in stock(world)} == {"nightly"}
    before = {one.id for one in stock(world)}
    answer = world.requests.make(ASKED)
    environment = answer.environment
    assert answer.from_pool
    assert environment.id in before
    assert (environment.state, environment.owner, environment.priority) == (E.LEASED, "", "interactive")
    assert environment.contract is not None
    assert (environment.contract.owner, environment.contract.ready_at) == ("ada", world.clock.now())
    assert environment.ends_at == world.clock.now() + 2 * HOUR
    expect_keys(world, environment)
    assert "environment.handed-over" in told(world, environment)
    world.advance(3)
    assert (state(world).ready, state(world).handed_out, state(world).hits, state(world).misses) == (2, 1, 1, 0)
    assert state(world).hit_wait_s == 0
    world.requests.release(environment.id, BY_AN_OPERATOR)
    world.advance(3)
    assert now(world, environment).state is E.DESTROYED
    assert (state(world).ready, state(world).handed_out) == (2, 0)


def test_who_finds_none_ready_gets_one_built(world: World) -> None:
    answers = [world.requests.make(ASKED) for _ in range(3)]
    assert [one.from_pool for one in answers] == [True, True, False]
    assert len({one.environment.id for one in answers}) == 3
    world.advance(3)
    assert now(world, answers[2].environment).state is E.LEASED
    assert (state(world).hits, state(world).misses) == (2, 1)


def test_a_key_is_made_where_none_is_given(world: World) -> None:
    answer = world.requests.make(replace(ASKED, keys=()))
    contract = answer.environment.contract
    assert answer.private_key is not None
    assert contract is not None
    expect_keys(world, answer.environment, contract.keys)


def test_the_same_request_again_is_answered_with_the_same_one(world: World) -> None:
    asked = replace(ASKED, repeat="once", body="a")
    first, again = world.requests.make(asked), world.requests.make(asked)
    assert (again.environment.id, again.repeated) == (first.environment.id, True)
    assert state(world).handed_out == 1


def test_another_project_or_blueprint_gets_nothing_of_it(world: World) -> None:
    world.project("other")
    assert not world.requests.make(replace(ASKED, project="other")).from_pool
    inline = replace(ASKED, template="", blueprint=json.dumps(PLAIN))
    assert not world.requests.make(inline).from_pool
    assert state(world).ready == 2


def test_what_needs_work_is_prepared_by_a_run_on_nodes_that_stand(tmp_path: Path) -> None:
    world = pooled(tmp_path, template=USUAL)
    answer = world.requests.make(replace(ASKED, ref="main"))
    assert not answer.from_pool  # not yet
    assert answer.environment.state is E.LEASED
    expect_keys(world, answer.environment)
    world.settle()
    (run,) = world.all_runs()
    environment = now(world, answer.environment)
    assert (run.environment_id, run.verdict, environment.owner) == (environment.id, Verdict.PASSED, run.id)
    assert environment.contract is not None
    assert environment.contract.ready_at
    world.advance(5)
    assert (state(world).hits, now(world, environment).state) == (1, E.LEASED)


def silent(world: World, *environments: str) -> None:
    def answer(call: Call) -> int | None:
        return 1 if call.environment_id in environments else None

    world.program("authorized_keys", answer)


def test_one_that_does_not_take_the_keys_is_destroyed_and_another_tried(world: World) -> None:
    bad, good = (one.id for one in stock(world))
    silent(world, bad)
    world.ids.dice = lambda: 0.0  # type: ignore[method-assign]  # the first one is taken first
    answer = world.requests.make(replace(ASKED, repeat="once", body="a", name="mine"))
    assert answer.environment.id == good
    assert world.requests.find("mine", "shop").id == good
    assert world.requests.make(replace(ASKED, repeat="once", body="a")).environment.id == good
    given_up = world.books.environments.get(bad).value
    assert given_up.contract is None
    assert "its requester's keys could not be set: node web-0 did not take the keys" in given_up.fault
    world.advance(3)
    assert world.books.environments.get(bad).value.state is E.DESTROYED
    assert world.books.environments.get(good).value.state is E.LEASED


def test_where_none_takes_the_keys_one_is_built(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=CLAIMS)
    silent(world, *(one.id for one in stock(world)))
    answer = world.requests.make(ASKED)
    assert not answer.from_pool
    world.advance(5)
    assert now(world, answer.environment).state is E.LEASED


def test_a_run_of_one_that_is_given_up_goes_with_it(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=1, template={**USUAL, "destroy": {"on_failure": {"hold": "1h"}}})
    (bad,) = stock(world)
    silent(world, bad.id)
    answer = world.requests.make(replace(ASKED, ref="main"))
    world.advance(5)
    assert now(world, bad).state is E.DESTROYED
    verdicts = {run.environment_id: run.verdict for run in world.all_runs()}
    assert verdicts == {bad.id: Verdict.CANCELLED, answer.environment.id: Verdict.PASSED}


def test_who_claims_may_die_and_the_tick_finishes_it(world: World) -> None:
    world.grave.dig("world after write")
    with pytest.raises(WorkerKilled):
        world.requests.make(replace(ASKED, repeat="once", body="a"))
    world.grave.bury()
    (claimed,) = [one for one in world.all_environments() if one.contract is not None]
    again = world.requests.make(replace(ASKED, repeat="once", body="a"))
    assert (again.environment.id, again.repeated, again.from_pool) == (claimed.id, True, False)
    world.advance(CLAIM_S + 3)
    finished = now(world, claimed)
    assert finished.contract is not None
    assert (finished.state, finished.contract.ready_at > 0) == (E.LEASED, True)
    expect_keys(world, finished)


@pytest.mark.parametrize("where", ["worker before write", "worker after write"])
def test_who_finishes_a_claim_may_die_as_well(where: str, world: World) -> None:
    world.grave.dig("world after write")
    with pytest.raises(WorkerKilled):
        world.requests.make(replace(ASKED, repeat="once", body="a"))
    world.grave.bury()
    world.advance(CLAIM_S - 4)  # the pool is full again, and nothing else is written by workers
    assert state(world).ready == 2
    world.grave.dig(where)
    world.advance(8)
    assert world.grave.where is None  # somebody died there
    (mine,) = [one for one in world.all_environments() if one.contract is not None]
    assert mine.contract is not None
    assert (mine.state, mine.contract.ready_at > 0) == (E.LEASED, True)
    expect_keys(world, mine)


def test_a_claim_that_nobody_can_finish_is_taken_back(world: World) -> None:
    silent(world, *(one.id for one in stock(world)))
    world.grave.dig("world after write")
    with pytest.raises(WorkerKilled):
        world.requests.make(replace(ASKED, repeat="once", body="a"))
    world.grave.bury()
    (claimed,) = [one for one in world.all_environments() if one.contract is not None]
    world.advance(CLAIM_S + 5)
    assert now(world, claimed).state is E.DESTROYED
    again = world.requests.make(replace(ASKED, repeat="once", body="a"))
    assert again.environment.id != claimed.id  # it was never handed over, so the request still stands


@pytest.mark.parametrize("countdown", range(1, 7))
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_death_at_each_write_of_a_request_leaves_one_owner(when: str, countdown: int, tmp_path: Path) -> None:
    world = pooled(tmp_path)
    asked = replace(ASKED, repeat="once", body="a", name="mine")
    world.grave.dig(f"world {when} write", countdown)
    died = _asked_and_died(world, asked)
    world.grave.where = None
    world.advance(CLAIM_S + 5)
    answer = world.requests.make(asked)
    world.advance(5)
    mine = [one for one in world.all_environments() if one.contract is not None and not one.final]
    assert [one.id for one in mine] == [answer.environment.id]
    expect_keys(world, mine[0])
    assert state(world).ready == 2
    assert died or countdown > 2  # a claim is two writes: the claim and its confirmation


def _asked_and_died(world: World, asked: Request) -> bool:
    try:
        world.requests.make(asked)
    except WorkerKilled:
        world.grave.bury()
        return True
    return False


@pytest.mark.parametrize("who", ["tick", "worker"])
def test_deaths_while_a_pool_is_filled_leave_nothing_over(who: str, tmp_path: Path) -> None:
    for when in ("before", "after"):
        for countdown in range(1, 12):
            with TemporaryDirectory(dir=tmp_path) as scratch:
                _fill_with_a_death(Path(scratch), f"{who} {when} write", countdown)


def _fill_with_a_death(scratch: Path, where: str, countdown: int) -> None:
    world = usual_world(scratch)
    world.templates.keep("pair", json.dumps(PLAIN))
    world.pools.set("pairs", "shop", "pair", 2, 4, HOUR)
    world.grave.dig(where, countdown)
    world.advance(60)
    assert state(world).ready == 2, (where, countdown)
    assert len(stock(world)) == 2
    world.pools.forget("pairs", BY_AN_OPERATOR)
    world.advance(30)
    assert {name: world.store.count(name) for name in EMPTY if world.store.count(name)} == {}
    assert not world.cloud.marks


def test_what_is_too_old_is_replaced_before_it_goes(world: World) -> None:
    old = {one.id for one in stock(world)}
    world.advance(HOUR - RENEW_S + 10)
    assert state(world).ready == 4  # the new ones stand beside the old ones
    world.advance(RENEW_S)
    assert len(stock(world)) == 2
    assert not old & {one.id for one in stock(world)}
    assert "kept ready for 1h" in world.books.environments.get(min(old)).value.reason


def test_what_does_not_answer_is_not_handed_out_and_goes(world: World) -> None:
    world.transport.unreachable["web-0"] = "no route"
    world.advance(CHECK_S + 2)
    assert state(world).ready == 0
    assert any("no route" in why for why in state(world).short)
    assert not world.requests.make(ASKED).from_pool
    ill = {one.id for one in stock(world)}
    world.transport.unreachable.clear()
    world.advance(60)
    assert state(world).ready == 2
    assert ill  # one look without an answer is no end


def test_what_stays_silent_is_replaced(world: World) -> None:
    ill = {one.id for one in stock(world)}
    world.transport.unreachable["web-0"] = "no route"
    world.advance(CHECK_S + 12)
    assert {world.books.environments.get(id).value.state for id in ill} == {E.DESTROYED}
    assert "did not answer 2 times" in world.books.environments.get(min(ill)).value.reason


def test_nothing_is_handed_out_from_a_quarantined_machine(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=1, template=ONE, machines=3)
    (one,) = stock(world)
    world.inventories.set_state("cloud", one.nodes[0].machine, MachineState.QUARANTINED, BY_AN_OPERATOR)
    answer = world.requests.make(ASKED)  # before any tick looked at it
    assert answer.environment.id != one.id
    assert not answer.from_pool
    world.advance(5)
    assert now(world, one).state is E.DESTROYED
    assert "is quarantined" in now(world, one).reason
    assert state(world).ready == 1


def test_a_changed_template_replaces_what_was_made_of_the_old_one(world: World) -> None:
    old = {one.id for one in stock(world)}
    world.templates.keep("pair", json.dumps({**PLAIN, "service": "bakery"}))
    assert not world.requests.make(ASKED).from_pool
    world.advance(5)
    assert {one.service for one in stock(world)} == {"bakery"}
    assert {world.books.environments.get(id).value.state for id in old} == {E.DESTROYED}


def test_a_template_that_is_gone_empties_its_pool_and_is_told(world: World) -> None:
    world.templates.forget("pair", BY_AN_OPERATOR)
    world.advance(5)
    assert not stock(world)
    assert "there is no template 'pair'" in state(world).short[0]
    world.templates.keep("pair", json.dumps(PLAIN))
    world.advance(5)
    assert (state(world).ready, state(world).short) == (2, ())


def test_a_removed_pool_is_emptied_and_what_it_handed_out_stays(world: World) -> None:
    mine = world.requests.make(ASKED).environment
    world.pools.forget("pairs", BY_AN_OPERATOR)
    world.advance(5)
    assert [one.id for one in world.all_environments() if not one.final] == [mine.id]


def test_fewer_wanted_and_the_rest_goes(world: World) -> None:
    world.pools.set("pairs", "shop", "pair", 1, 2, HOUR)
    world.advance(5)
    assert (len(stock(world)), state(world).ready) == (1, 1)


def test_max_counts_what_was_handed_out(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=2, most=3)
    for _ in range(2):
        world.requests.make(ASKED)
    world.advance(5)
    assert (state(world).ready, state(world).handed_out) == (1, 2)
    assert state(world).short == ("3 stand already, those handed out included: its max is reached",)


def test_a_request_that_needs_the_room_gets_it_at_once(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=3, most=3, template=ONE, machines=3)
    assert state(world).ready == 3
    asked = replace(ASKED, template="", blueprint=json.dumps({**PLAIN, "environment": {
        "image": "debian-12", "roles": {"web": {"count": 2}}}}))  # fmt: skip
    environment = world.requests.make(asked).environment
    world.settle()
    world.advance(2)
    assert now(world, environment).state is E.LEASED
    assert state(world).ready == 1
    assert state(world).preparing == 2
    assert any("warm pools come last" in why or "wait" in why or "fit" in why for why in state(world).short)
    world.advance(300)
    assert now(world, environment).state is E.LEASED


def test_a_pool_gives_its_projects_quota_back(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    world.projects.change("shop", ProjectChange({"nodes": 4}))
    world.templates.keep("one", json.dumps(ONE))
    world.pools.set("ones", "shop", "one", 4, 4, HOUR)
    world.advance(3)
    assert len(stock(world)) == 4
    asked = replace(ASKED, template="", blueprint=json.dumps({**PLAIN, "environment": {
        "image": "debian-12", "roles": {"web": {"count": 3}}}}))  # fmt: skip
    environment = world.requests.make(asked).environment
    world.advance(5)
    assert (now(world, environment).state, len(stock(world))) == (E.LEASED, 1)
    with pytest.raises(OverQuota):
        world.requests.make(asked)  # what is in use is not given back
    world.advance(60)
    assert (now(world, environment).state, len(stock(world))) == (E.LEASED, 1)


def test_what_was_handed_out_is_nobody_elses_room(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=3, most=3, template=ONE, machines=3)
    mine = [world.requests.make(ASKED).environment for _ in range(3)]
    inline = replace(ASKED, template="", blueprint=json.dumps(ONE))
    waits = world.requests.make(inline).environment
    world.advance(60)
    assert now(world, waits).state is E.REQUESTED
    assert {now(world, one).state for one in mine} == {E.LEASED}


def test_a_waiting_pool_holds_nobody_up(tmp_path: Path) -> None:
    world = pooled(tmp_path, ready=2, most=2, template={**PLAIN, "environment": {
        "image": "debian-12", "roles": {"web": {"count": 3}}}}, machines=3)  # fmt: skip
    assert (state(world).ready, state(world).preparing) == (1, 1)
    world.advance(600)  # longer than anything may be overtaken
    inline = replace(ASKED, template="", blueprint=json.dumps(ONE))
    environment = world.requests.make(inline).environment
    world.advance(3)
    assert now(world, environment).state is E.LEASED


def test_builds_that_fail_are_not_asked_for_all_the_time(tmp_path: Path) -> None:
    world = usual_world(tmp_path)
    world.templates.keep("pair", json.dumps(PLAIN))
    world.cloud.faults["web-0"] = "its disk is broken"
    world.pools.set("pairs", "shop", "pair", 1, 2, HOUR)
    world.advance(600)
    failed = [one for one in world.all_environments() if one.fault]
    assert 2 <= len(failed) <= math.log2(600 / BACK_OFF_S) + 2
    assert any("its disk is broken" in why for why in state(world).short)
    world.cloud.faults.clear()
    world.advance(MOST_OFF_S)
    assert state(world).ready == 1


def test_mistakes_are_told(world: World) -> None:
    with pytest.raises(NotFound, match="there is no template 'none'; there are: pair"):
        world.pools.set("more", "shop", "none", 1, 2, HOUR)
    with pytest.raises(NotFound, match="there is no project nobody"):
        world.pools.set("more", "nobody", "pair", 1, 2, HOUR)
    with pytest.raises(AlreadyExists, match="has a warm pool already: pairs"):
        world.pools.set("more", "shop", "pair", 1, 2, HOUR)
    with pytest.raises(UserError, match="max: 1; say at least what is kept ready"):
        world.pools.set("pairs", "shop", "pair", 2, 1, HOUR)
    with pytest.raises(UserError, match="max_age: 5s; say at least 1m"):
        world.pools.set("pairs", "shop", "pair", 2, 2, 5)
    with pytest.raises(NotFound, match="there is no warm pool 'none'; there are: pairs"):
        world.pools.state("none")


def test_nobody_gets_the_key_of_one_that_waits_in_a_pool(world: World) -> None:
    with pytest.raises(InvalidTransition, match="belongs to warm pool pairs: ask for it"):
        world.leases.give_access(stock(world)[0].id)
    mine: Answer = world.requests.make(ASKED)
    assert world.leases.give_access(mine.environment.id).nodes
