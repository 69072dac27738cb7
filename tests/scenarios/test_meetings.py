"""Where rules meet: notices and nominations with quotas, holds, machines that go, closed lines and failed builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import CapacityError
from pipeline.domain.inventory import MachineState
from pipeline.domain.milestones import Deadlines
from pipeline.domain.placement.requests import nominated_of
from pipeline.domain.projects import ProjectChange
from pipeline.domain.rules import OperatorRule
from pipeline.domain.runs import RunState, StageName, Verdict
from pipeline.envs.gate import Asking, Budget
from pipeline.ports.drivers import NodeStatus
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

E = EnvironmentState


def blueprint(class_: str = "best-effort", count: int = 1) -> Mapping[str, Any]:
    web = {"script": "setup.sh", "count": count, "qos": {"class": class_}}
    return {**USUAL, "environment": {"image": "debian-12", "roles": {"web": web}}}


MODEST, FIRM = blueprint(), blueprint("guaranteed")
HELD = {**MODEST, "destroy": {"on_failure": {"hold": "30m"}}}


def begin(path: Path, failing: int = 0, **knobs: Any) -> World:
    """A world of builds that may take long, where the first so many tests fail."""
    world = World(str(path), **knobs)
    world.provider = replace(world.provider, deadlines=Deadlines(10_000.0))
    world.project("shop")
    world.project("vip")
    answers = [1] * failing
    world.program(r"\./migrate", lambda _: 0)
    world.program(r"\./check", lambda _: answers.pop() if answers else 0)
    return world


def push(world: World, what: Mapping[str, Any], branch: str, project: str = "shop") -> Environment:
    """The environment of the run that a push makes."""
    world.push(project, what, branch=branch)
    world.settle()
    return world.all_environments()[-1]


def slow_push(world: World, what: Mapping[str, Any], branch: str, project: str = "shop") -> Environment:
    world.cloud.slow = True
    made = push(world, what, branch, project)
    world.cloud.slow = False
    return made


def now(world: World, environment: Environment) -> Environment:
    return world.books.environments.get(environment.id).value


def occupy(world: World, project: str) -> None:
    """Somewhere else a node of a project stands."""
    (first, *_) = world.all_environments()
    used = replace(first, id=f"env-of-{project}", project=project, state=E.LEASED, owner="", notice=None)
    world.books.commit(world.books.environments.kind.put(used.id, used, 0))


def finish(world: World) -> None:
    """Let everything go on to its end, however long it takes."""
    world.cloud.finish()
    world.advance(30)


def test_one_for_whom_room_was_made_is_not_stopped_by_one_that_waits_longer(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=1)
    victim = slow_push(world, MODEST, "victim")
    push(world, blueprint("burstable"), "first")
    world.advance(100)
    firm = slow_push(world, FIRM, "firm")
    assert now(world, victim).notice is not None
    world.advance(40)
    assert now(world, victim).state is E.DESTROYED
    assert now(world, firm).placed_at > 0
    finish(world)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED] * 3


def test_nobody_goes_for_one_that_is_over_its_quota_by_now(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=1)
    victim = slow_push(world, MODEST, "victim")
    firm = push(world, FIRM, "firm", "vip")
    assert now(world, victim).notice is not None
    world.projects.change("vip", ProjectChange(quota={"nodes": 1}))
    world.advance(1)
    assert now(world, firm).nomination is not None
    occupy(world, "vip")
    world.advance(3)
    assert (now(world, victim).notice, now(world, firm).nomination) == (None, None)
    assert "over the project's own quota" in now(world, firm).reason
    assert now(world, firm).state is E.REQUESTED


def test_two_of_one_project_do_not_take_more_places_than_its_quota_has(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=2)
    victims = [slow_push(world, MODEST, branch) for branch in ("a", "b")]
    world.projects.change("vip", ProjectChange(quota={"nodes": 1}))
    for branch in ("one", "two"):
        push(world, FIRM, branch, "vip")
    assert sum(now(world, victim).notice is not None for victim in victims) == 1


def test_a_run_that_took_nodes_over_and_waits_begins_anew_when_they_are_taken_back(tmp_path: Path) -> None:
    world = begin(tmp_path, failing=1, max_nodes=2)
    world.project("shop2", max_runs=1)
    held = push(world, HELD, "held", "shop2")
    assert now(world, held).state is E.HELD
    slow_push(world, blueprint("burstable"), "busy", "shop2")
    again = world.control.rerun(world.all_runs()[0].id, StageName.TEST)
    world.settle()
    assert world.books.runs.get(again.id).value.state is RunState.PENDING
    push(world, FIRM, "firm", "vip")
    assert now(world, held).notice is not None
    world.advance(40)
    assert now(world, held).state is E.DESTROYED
    finish(world)
    run = world.books.runs.get(again.id).value
    assert (run.verdict, run.preempted, run.reason) == (Verdict.PASSED, 1, "")
    assert world.cloud.nodes == {}


def test_a_notice_ends_with_the_place_that_it_was_given_for(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=2)
    victims = [slow_push(world, MODEST, branch) for branch in ("a", "b")]
    push(world, blueprint("guaranteed", count=2), "firm", "vip")
    assert all(now(world, victim).notice for victim in victims)
    ((key, view),) = [(key, view) for key, view in world.cloud.nodes.items() if key[0] == victims[0].id]
    world.cloud.nodes[key] = replace(view, status=NodeStatus.ERROR, fault="no valid hypervisor")
    world.cloud.slow = True
    world.advance(5)
    assert (now(world, victims[0]).state, now(world, victims[0]).notice) == (E.REQUESTED, None)
    world.advance(60)
    assert [one.state for one in world.all_environments()] == [E.REQUESTED, E.DESTROYED, E.BUILDING, E.REQUESTED]
    world.cloud.slow = False
    finish(world)
    assert [(run.verdict, run.preempted) for run in world.all_runs()] == [
        (Verdict.PASSED, 0),
        (Verdict.PASSED, 1),
        (Verdict.PASSED, 0),
    ]


def test_a_spent_budget_is_looked_at_again(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=1)
    world.budgets["cloud"] = Budget(acts=0)
    victim = slow_push(world, MODEST, "victim")
    push(world, FIRM, "firm", "vip")
    world.advance(10)
    assert now(world, victim).notice is None
    world.budgets["cloud"] = Budget()
    world.advance(10)
    assert now(world, victim).notice is not None


def test_many_that_are_held_do_not_hide_one_that_may_go(tmp_path: Path) -> None:
    world = begin(tmp_path, failing=13, max_nodes=14)
    victim = slow_push(world, MODEST, "victim")
    world.advance(1)
    for number in range(13):
        push(world, HELD, f"held-{number}")
    assert [one.state for one in world.all_environments()].count(E.HELD) == 13
    push(world, FIRM, "firm", "vip")
    world.advance(10)
    assert now(world, victim).notice is not None


def test_nobody_goes_from_a_machine_that_takes_nothing_any_more(tmp_path: Path) -> None:
    world = begin(tmp_path, machines=2)
    other = slow_push(world, MODEST, "other")
    world.advance(2)
    victim = slow_push(world, MODEST, "victim")
    push(world, FIRM, "firm", "vip")
    (node,) = now(world, victim).nodes
    assert now(world, victim).notice is not None
    world.inventories.set_state("cloud", node.machine, MachineState.DRAINING, Asking("me", "it smells"))
    world.advance(10)
    assert now(world, victim).notice is None
    assert now(world, other).notice is not None


def test_when_one_of_several_stays_after_all_the_others_need_not_go(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=2)
    stays = slow_push(world, HELD, "stays")
    other = slow_push(world, MODEST, "other")
    push(world, blueprint("guaranteed", count=2), "firm", "vip")
    assert [now(world, one).notice is not None for one in (stays, other)] == [True, True]
    loaded = world.books.environments.get(stays.id)
    kept = replace(loaded.value, protected="it is looked at")
    world.books.commit(world.books.environments.kind.put(kept.id, kept, loaded.version))
    world.advance(10)
    assert now(world, other).notice is None


def test_one_that_had_its_place_already_waits_when_it_is_over_the_quota_by_now(tmp_path: Path) -> None:
    world = begin(tmp_path, max_nodes=1)
    push(world, MODEST, "first")
    world.cloud.fail_create = [CapacityError("no room") for _ in range(50)]
    world.control.rerun(world.all_runs()[0].id, None)
    world.settle()
    again = world.all_environments()[-1]
    assert again.state is E.RESERVED
    world.projects.change("shop", ProjectChange(quota={"nodes": 1}))
    push(world, FIRM, "firm", "vip")
    occupy(world, "shop")
    world.advance(2)
    assert now(world, again).state is E.REQUESTED
    assert "quota" in now(world, again).reason


def test_places_that_wait_are_kept_apart_as_the_rules_of_the_project_say(tmp_path: Path) -> None:
    world = begin(tmp_path, machines=1)
    world.projects.change("vip", ProjectChange(rules=(OperatorRule("alone", apart_from=("noisy",)),)))
    slow_push(world, MODEST, "victim")
    firm = push(world, FIRM, "firm", "vip")
    (place,) = nominated_of(now(world, firm))
    assert (place.machine, place.apart_from) == ("m1", ("noisy",))
    assert [(node.machine, node.zone) for node in now(world, firm).nodes] == [("", "")]


@pytest.mark.parametrize("end", ["cancel", "newer"])
def test_a_run_that_waits_again_after_a_preemption_ends_at_once(tmp_path: Path, end: str) -> None:
    world = begin(tmp_path, max_nodes=1)
    slow_push(world, MODEST, "victim")
    slow_push(world, FIRM, "firm", "vip")
    world.cloud.slow = True
    world.advance(40)
    run = world.all_runs()[0]
    assert run.preempted == 1
    if end == "cancel":
        world.control.cancel(run.id)
    else:
        world.push("shop", MODEST, branch="victim")
    world.cloud.slow = False
    finish(world)
    verdict = Verdict.CANCELLED if end == "cancel" else Verdict.SUPERSEDED
    assert world.books.runs.get(run.id).value.verdict is verdict
    assert world.cloud.nodes == {}
