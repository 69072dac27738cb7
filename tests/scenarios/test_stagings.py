"""Stagings from the first deploy to the last rollback: bad versions, races, deaths, and times that are over."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.environments import EnvironmentState
from pipeline.domain.errors import (
    AlreadyExists,
    GreenroomError,
    GuardRefused,
    InvalidTransition,
    NotFound,
    TransientError,
    UserError,
)
from pipeline.domain.runs import StageName, StageState, Verdict
from pipeline.domain.stagings import Activity, Check, SlotName, SlotState, Staging, StagingSpec
from pipeline.envs.gate import Asking
from pipeline.stages.requests import Request
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World, repository_of

E = EnvironmentState
BLUE, GREEN = SlotName.BLUE, SlotName.GREEN
ADA = Asking("ada", "a new version")
SPEC = StagingSpec("shop", "", "web", 8080, health="/health", watch_s=60, drain_s=30, keep_s=3600)
HOST = "front.test.example"
TWO = {**USUAL, "environment": {"image": "debian-12", "roles": {"web": {"script": "setup.sh", "count": 2}}}}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = usual_world(tmp_path)
    commit(world, "v1")
    commit(world, "v2")
    world.stagings.put("front", SPEC)
    return world


def commit(world: World, branch: str, blueprint: object = USUAL) -> str:
    content = {"greenroom.yml": json.dumps(blueprint).encode(), "version": branch.encode()}
    return world.repositories.commit(repository_of("shop"), branch, content)


def now(world: World) -> Staging:
    return world.stagings.get("front")


def deploy(world: World, ref: str) -> Staging:
    world.stagings.deploy("front", ref, ADA)
    world.advance(2)
    return now(world)


def promote(world: World) -> Staging:
    world.stagings.promote("front", ADA)
    world.settle()
    return now(world)


def live(world: World, ref: str, *, calm: bool = True) -> Staging:
    deploy(world, ref)
    staging = promote(world)
    if calm:
        world.advance(61)
    return staging


def environment(world: World, slot: SlotName) -> str:
    return now(world).slot(slot).environment


def state(world: World, id: str) -> EnvironmentState:
    return world.books.environments.get(id).value.state


def what(staging: Staging) -> list[str]:
    return [entry.what for entry in staging.history]


def test_a_deploy_is_tested_in_the_idle_slot_and_goes_live_when_it_is_promoted(world: World) -> None:
    staging = deploy(world, "v1")
    assert (staging.activity, staging.live, staging.blue.state) == (Activity.IDLE, None, SlotState.PASSED)
    (run,) = world.all_runs()
    assert run.stage(StageName.TEST).state is StageState.PASSED
    assert world.router.routes() == {}
    staging = promote(world)
    assert (staging.activity, staging.live) == (Activity.WATCHING, BLUE)
    assert world.router.routes() == {HOST: staging.blue.environment}
    world.advance(61)
    assert now(world).activity is Activity.IDLE
    assert what(now(world)) == ["deployed", "promoted", "stays"]
    told = [event.type for event in world.store.events("staging.front")]
    assert told == ["staging.deployed", "staging.promoted", "staging.stays"]


def test_slots_take_turns_and_the_old_one_goes_after_its_keep_time(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    blue, green = environment(world, BLUE), environment(world, GREEN)
    assert (now(world).live, world.router.routes()) == (GREEN, {HOST: green})
    assert state(world, blue) is E.LEASED
    world.advance(3600)
    assert state(world, blue) is E.DESTROYED
    assert state(world, green) is E.LEASED
    assert now(world).blue.state is SlotState.EMPTY
    assert set(world.router.known()) == {green}


def test_a_slot_that_is_kept_warm_stays_until_the_next_deploy(world: World) -> None:
    world.stagings.put("front", replace(SPEC, keep_warm=True))
    live(world, "v1")
    live(world, "v2")
    blue = environment(world, BLUE)
    world.advance(4000)
    assert state(world, blue) is E.LEASED
    deploy(world, "v1")
    assert state(world, blue) is E.DESTROYED
    assert environment(world, BLUE) != blue


def test_a_version_whose_tests_fail_is_never_promoted(world: World) -> None:
    world.program(r"\./check", lambda _: 1)
    world.commands.reverse()
    staging = deploy(world, "v1")
    assert staging.blue.state is SlotState.FAILED
    assert "failed" in staging.blue.fault
    with pytest.raises(InvalidTransition, match=r"failed.*deploy front REF"):
        world.stagings.promote("front", ADA)
    assert state(world, staging.blue.environment) is E.DESTROYED


def test_a_bad_version_is_noticed_and_goes_back_by_itself(world: World) -> None:
    live(world, "v1")
    live(world, "v2", calm=False)
    blue, green = environment(world, BLUE), environment(world, GREEN)
    world.router.traffic[green] = (3, 100, 2)
    world.advance(5)
    assert now(world).activity is Activity.WATCHING
    world.router.traffic[green] = (3, 200, 11)
    world.advance(2)
    staging = now(world)
    assert (staging.activity, staging.live, world.router.routes()) == (Activity.IDLE, BLUE, {HOST: blue})
    assert what(staging)[-3:] == ["promoted", "bad", "went back"]
    assert "11 of 200" in staging.history[-1].why
    assert 5 <= staging.history[-2].seconds <= 8
    assert staging.green.state is SlotState.FAILED
    with pytest.raises(InvalidTransition, match="11 of 200"):
        world.stagings.promote("front", ADA)


def test_errors_from_before_the_promotion_do_not_count(world: World) -> None:
    live(world, "v1")
    deploy(world, "v2")
    world.router.traffic[environment(world, GREEN)] = (0, 100, 90)
    promote(world)
    world.advance(61)
    assert (now(world).live, what(now(world))[-1]) == (GREEN, "stays")


def test_a_rollback_within_the_keep_time_is_one_switch(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    world.advance(1800)
    before = len(world.router.switches)
    world.stagings.rollback("front", Asking("bob", "customers complain"))
    world.settle()
    staging = now(world)
    assert (staging.live, staging.activity) == (BLUE, Activity.IDLE)
    assert world.router.switches[before:] == [(HOST, staging.blue.environment)]
    assert (staging.history[-1].what, staging.history[-1].who) == ("rolled back", "bob")


def test_a_rollback_of_a_promotion_that_is_watched_needs_no_wait(world: World) -> None:
    live(world, "v1")
    live(world, "v2", calm=False)
    world.stagings.rollback("front", ADA)
    world.settle()
    assert (now(world).live, now(world).activity) == (BLUE, Activity.IDLE)


def test_a_rollback_to_what_does_not_answer_needs_an_override(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    blue = environment(world, BLUE)
    world.router.sick.update(world.router.known()[blue].targets)
    world.stagings.rollback("front", ADA)
    world.settle()
    assert now(world).live is GREEN
    assert "guard healthy" in now(world).history[-1].why
    world.stagings.rollback("front", replace(ADA, overrides={"healthy": "its check is wrong"}))
    world.settle()
    assert (now(world).live, world.router.routes()) == (BLUE, {HOST: blue})


def test_no_override_leads_back_to_a_slot_that_is_gone(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    loaded = world.books.environments.get(environment(world, BLUE))
    gone = replace(loaded.value, state=E.DESTROYED, reason="by hand")
    world.books.commit(world.books.environments.kind.put(gone.id, gone, loaded.version))
    world.stagings.rollback("front", replace(ADA, overrides={"healthy": "all the same"}))
    world.settle()
    assert now(world).live is GREEN
    assert f"environment {gone.id} is destroyed: by hand" in now(world).history[-1].why


def test_a_rollback_after_the_keep_time_says_what_to_do(world: World) -> None:
    with pytest.raises(InvalidTransition, match="nothing was promoted"):
        world.stagings.rollback("front", ADA)
    live(world, "v1")
    live(world, "v2")
    world.advance(3601)
    with pytest.raises(InvalidTransition, match="keep time is over"):
        world.stagings.rollback("front", ADA)
    assert world.router.routes() == {HOST: environment(world, GREEN)}


def test_of_two_deploys_that_race_the_newest_wins(world: World) -> None:
    first = world.stagings.deploy("front", "v1", ADA)
    world.stagings.deploy("front", "v2", ADA)
    world.advance(2)
    staging = now(world)
    assert (staging.blue.ref, staging.blue.state) == ("v2", SlotState.PASSED)
    assert first.wanted is not None
    assert staging.blue.number == first.wanted.number + 1
    world.advance(2)
    standing = [one.id for one in world.all_environments() if not one.final]
    assert standing == [staging.blue.environment]


def test_a_newer_deploy_takes_the_slot_of_one_that_is_under_way(world: World) -> None:
    world.stagings.deploy("front", "v1", ADA)
    world.tick.step(world.fence)
    world.switching.begin_deploy("front", 1)
    older = environment(world, BLUE)
    assert now(world).activity is Activity.DEPLOYING
    deploy(world, "v2")
    world.advance(2)
    assert now(world).blue.ref == "v2"
    assert world.books.environments.get(older).value.final
    assert what(now(world)) == ["deployed"]


def test_an_event_that_comes_late_never_overwrites_a_newer_one(world: World) -> None:
    world.stagings.deploy("front", "v2", ADA, as_of=world.clock.now() - 5)
    with pytest.raises(InvalidTransition, match="the newer one stays"):
        world.stagings.deploy("front", "v1", ADA, as_of=world.clock.now() - 10)
    world.settle()
    assert now(world).blue.ref == "v2"


def test_a_deploy_during_a_watch_waits_for_its_end(world: World) -> None:
    live(world, "v1")
    live(world, "v2", calm=False)
    blue = environment(world, BLUE)
    commit(world, "v3")
    deploy(world, "v3")
    assert (environment(world, BLUE), now(world).activity) == (blue, Activity.WATCHING)
    world.advance(70)
    assert (now(world).blue.ref, now(world).blue.state) == ("v3", SlotState.PASSED)


def test_a_node_that_dies_during_a_promotion(world: World) -> None:
    commit(world, "v1", TWO)
    commit(world, "v2", TWO)
    live(world, "v1")
    deploy(world, "v2")
    backend = world.router.backends[environment(world, GREEN)]
    world.router.sick.add(backend.targets[0])
    world.stagings.promote("front", ADA)
    world.advance(20)
    staging = now(world)
    assert (staging.live, staging.activity, what(staging)[-1]) == (BLUE, Activity.IDLE, "not switched")
    assert "1 of its 2 nodes" in staging.history[-1].why
    world.router.sick.clear()
    promote(world)
    world.router.sick.add(backend.targets[0])
    world.advance(5)
    assert now(world).live is GREEN  # the other node answers
    world.router.sick.add(backend.targets[1])
    world.advance(2)
    assert (now(world).live, what(now(world))[-1]) == (BLUE, "went back")


def test_where_nothing_is_left_to_go_back_to_it_stays(world: World) -> None:
    live(world, "v1", calm=False)
    world.router.sick |= set(world.router.backends[environment(world, BLUE)].targets)
    world.advance(2)
    staging = now(world)
    assert (staging.live, staging.activity, what(staging)[-1]) == (BLUE, Activity.IDLE, "bad")


def test_an_operator_may_promote_what_is_not_well(world: World) -> None:
    live(world, "v1")
    deploy(world, "v2")
    world.router.sick |= set(world.router.backends[environment(world, GREEN)].targets)
    world.stagings.promote("front", Asking("ada", "it is the check that is wrong", {"healthy": "the check is wrong"}))
    world.clock.sleep(20)
    world.settle()
    assert "promoted" in what(now(world))[3:]


def test_checks_run_before_the_switch(world: World) -> None:
    world.stagings.put("front", replace(SPEC, checks=(Check("./smoke", "web"),)))
    deploy(world, "v1")
    world.program(r"\./smoke", lambda _: 3)
    promote(world)
    world.advance(2)
    staging = now(world)
    assert (staging.live, staging.activity) == (None, Activity.IDLE)
    assert "'./smoke' ended with status 3" in staging.history[-1].why
    world.commands.pop()
    world.program(r"\./smoke", lambda _: 0)
    promote(world)
    world.advance(2)
    assert now(world).live is BLUE


def test_what_is_open_in_the_old_slot_ends_at_the_bound_of_its_drain(world: World) -> None:
    live(world, "v1")
    blue = environment(world, BLUE)
    world.router.traffic[blue] = (2, 10, 0)
    live(world, "v2", calm=False)
    world.advance(28)
    assert world.router.reading(blue).sessions == 2
    world.advance(4)
    assert world.router.reading(blue).sessions == 0
    assert now(world).blue.drains_until == 0


def test_approval_where_it_is_wanted(world: World) -> None:
    world.stagings.put("front", replace(SPEC, approval=True))
    deploy(world, "v1")
    with pytest.raises(InvalidTransition, match="approved by nobody"):
        world.stagings.promote("front", ADA)
    world.stagings.approve("front", Asking("eve", "looks good"))
    assert promote(world).live is BLUE
    assert [(entry.what, entry.who) for entry in now(world).history][1] == ("approved", "eve")


def test_a_lock_says_who_and_why_and_lets_a_rollback_pass(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    with pytest.raises(UserError, match="reason"):
        world.stagings.lock("front", Asking("ada", " "))
    world.stagings.lock("front", Asking("ada", "the fair is on"))
    refused: list[Callable[[], object]] = [
        lambda: world.stagings.deploy("front", "v1", ADA),
        lambda: world.stagings.promote("front", ADA),
        lambda: world.stagings.remove("front", ADA),
        lambda: world.stagings.put("front", SPEC),
    ]
    for ask in refused:
        with pytest.raises(InvalidTransition, match=r"locked by ada.*the fair is on.*unlock"):
            ask()
    world.stagings.rollback("front", ADA)
    world.settle()
    assert now(world).live is BLUE
    world.stagings.unlock("front", ADA)
    deploy(world, "v1")
    assert now(world).green.ref == "v1"


def test_bad_wishes_say_which_and_why(world: World) -> None:
    world.project("other")
    wishes: list[tuple[type[GreenroomError], str, Callable[[], object]]] = [
        (AlreadyExists, "project shop", lambda: world.stagings.put("front", replace(SPEC, project="other"))),
        (AlreadyExists, HOST, lambda: world.stagings.put("back", replace(SPEC, domain=HOST))),
        (NotFound, "nowhere", lambda: world.stagings.deploy("front", "nowhere", ADA)),
        (NotFound, "front", lambda: world.stagings.get("back")),
        (UserError, "name", lambda: world.stagings.put("No Name", SPEC)),
        (UserError, "port", lambda: world.stagings.put("back", replace(SPEC, port=0))),
        (NotFound, "template", lambda: world.stagings.put("back", replace(SPEC, blueprint="none"))),
        (UserError, "no role 'api'", lambda: _served_by(world, "api")),
        (InvalidTransition, "empty", lambda: world.stagings.promote("front", ADA)),
    ]
    for error, words, ask in wishes:
        with pytest.raises(error, match=words):
            ask()


def _served_by(world: World, role: str) -> None:
    world.stagings.put("api", replace(SPEC, role=role))
    world.stagings.deploy("api", "v1", ADA)


def test_a_staging_with_a_live_slot_is_not_removed_by_mistake(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    with pytest.raises(GuardRefused, match="live"):
        world.stagings.remove("front", ADA)
    sure = Asking("ada", "over", {"traffic": "the fair is over"})
    world.stagings.remove("front", replace(sure, dry_run=True))
    assert now(world).live is GREEN
    world.stagings.remove("front", sure)
    world.advance(5)
    with pytest.raises(NotFound):
        now(world)
    assert not world.router.routes()
    assert not world.cloud.marks
    world.stagings.put("back", replace(SPEC, domain=HOST))


def test_a_slot_is_not_destroyed_by_hand_nor_by_time(world: World) -> None:
    live(world, "v1")
    with pytest.raises(GuardRefused, match="router front"):
        world.reaper.take_back(environment(world, BLUE), ADA)
    deploy(world, "v2")
    with pytest.raises(GuardRefused, match="slot of staging front"):
        world.reaper.take_back(environment(world, GREEN), ADA)
    world.clock.sleep(100 * 3600)
    world.settle()
    assert state(world, environment(world, BLUE)) is E.LEASED


def test_a_router_that_is_silent_stops_nothing_else(world: World) -> None:
    live(world, "v1")
    deploy(world, "v2")
    world.stagings.promote("front", ADA)
    world.router.down = True
    world.settle()
    assert now(world).activity is Activity.CHECKING
    with pytest.raises(TransientError):
        world.router.routes()
    world.router.down = False
    world.advance(2)
    assert now(world).live is GREEN


def test_a_route_that_is_not_what_the_books_say_is_told_anew(world: World) -> None:
    live(world, "v1")
    live(world, "v2")
    world.router.switch(HOST, environment(world, BLUE))
    world.advance(2)
    assert world.router.routes() == {HOST: environment(world, GREEN)}


def test_every_environment_that_answers_requests_has_a_name(world: World) -> None:
    deploys = [{"role": "web", "to": "/srv/shop", "run": ["./migrate"], "ready": {"http": ":8080/health"}}]
    world.program("health", lambda _: 0)
    commit(world, "named", {**USUAL, "deploy": deploys})
    made = world.requests.make(Request("shop", "ada", "to look", ref="named")).environment
    world.advance(2)
    backend = world.router.backends[made.id]
    assert (backend.host, backend.health, backend.targets[0].port) == (f"{made.id}.test.example", "/health", 8080)
    assert world.router.serving() == frozenset()
    world.requests.release(made.id, ADA)
    world.advance(2)
    assert state(world, made.id) is E.DESTROYED
    assert made.id not in world.router.known()


def test_a_full_router_leaves_names_out_and_nothing_else(world: World) -> None:
    world.router.room = 0
    deploys = [{"role": "web", "to": "/srv/shop", "ready": {"tcp": 8080}}]
    commit(world, "named", {**USUAL, "deploy": deploys})
    world.program("8080", lambda _: 0)
    made = world.requests.make(Request("shop", "ada", "to look", ref="named")).environment
    world.advance(2)
    assert (state(world, made.id), dict(world.router.known())) == (E.LEASED, {})


def handed(staging: str = "front") -> dict[str, object]:
    return {**USUAL, "on": {"push": {"branches": ["main"], "staging": staging}}}


def test_a_push_whose_run_passed_is_deployed(world: World) -> None:
    world.push("shop", handed())
    world.advance(2)

    (run,) = world.all_runs()[:1]
    staging = now(world)
    assert (run.verdict, staging.blue.state, staging.blue.sha) == (Verdict.PASSED, SlotState.PASSED, run.trigger.sha)
    assert staging.history[-1].why == f"run {run.id} passed"


def test_a_push_whose_run_failed_is_not_deployed(world: World) -> None:
    world.program(r"\./check", lambda _: 1)
    world.commands.reverse()
    world.push("shop", handed())
    world.advance(2)

    assert world.all_runs()[0].verdict is Verdict.FAILED
    assert now(world).last_number == 0


def test_a_push_to_another_branch_is_not_deployed(world: World) -> None:
    world.push("shop", handed(), branch="feature")
    world.advance(2)
    assert now(world).last_number == 0


@pytest.mark.parametrize(
    ("staging", "told"),
    [("nowhere", "there is no such staging: `greenroom staging set nowhere"), ("theirs", "belongs to another project")],
)
def test_a_staging_that_a_push_cannot_go_to_is_told_at_once(world: World, staging: str, told: str) -> None:
    world.project("other")
    world.stagings.put("theirs", replace(SPEC, project="other"))
    world.push("shop", handed(staging=staging))
    world.advance(2)

    (run,) = world.all_runs()
    assert run.verdict is Verdict.FAILED
    assert told in run.reason


def test_an_older_push_that_ends_later_stays_behind(world: World) -> None:
    older = world.push("shop", {**handed(), "on": {"push": {"branches": ["main", "next"], "staging": "front"}}})
    record = world.books.triggers.get(older)
    early = replace(record.value, received_at=world.clock.now() - 10)
    world.books.commit(world.books.triggers.kind.put(older, early, record.version))
    newest = commit(world, "v1")
    world.stagings.deploy("front", newest, ADA)
    world.advance(2)

    assert now(world).blue.sha == newest
    told = [one.data["why"] for one in world.store.events("staging.front") if one.type == "staging.not-deployed"]
    assert len(told) == 1
    assert "the newer one stays" in str(told[0])


def test_a_locked_staging_says_which_commit_it_did_not_get(world: World) -> None:
    world.stagings.lock("front", Asking("ada", "the fair is on"))
    world.push("shop", handed())
    world.advance(2)

    (run,) = world.all_runs()
    told = [one for one in world.store.events("staging.front") if one.type == "staging.not-deployed"]
    assert (run.verdict, len(told), told[0].data["sha"]) == (Verdict.PASSED, 1, run.trigger.sha)
    assert "the fair is on" in str(told[0].data["why"])
