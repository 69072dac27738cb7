"""What a guard refuses is told, waits or ends with the guard's words, and keeps nothing else from its way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipeline.api.views import RunView
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, TransientError
from pipeline.domain.guards import Act
from pipeline.domain.runs import AttemptState, Run, RunState, StageName, StageState, Verdict
from pipeline.envs.gate import AUDIT, TICK, Asking, Budget
from pipeline.stages.control import BY_HAND
from tests.scenarios.player import USUAL
from tests.scenarios.world import World

HELD = {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}}
E = EnvironmentState


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    world.program(r"\./migrate", lambda _: 0)
    return world


def push(world: World, blueprint: Mapping[str, Any] = USUAL, *, check: int = 0, branch: str = "main") -> None:
    world.program(r"\./check", lambda _: check)
    world.push("shop", blueprint, branch=branch)
    world.settle()


def the(world: World) -> tuple[Run, Environment]:
    (run,), (environment,) = world.all_runs(), world.all_environments()
    return run, environment


def into_traffic(world: World, *_: object) -> int:
    """Something goes live while its run tests it."""
    world.router.live |= {one.id for one in world.all_environments()}
    return 0


def audit(world: World, act: Act = Act.DESTROY) -> list[str]:
    """Who did what, in short."""
    return [_short(event.data) for event in world.store.events(AUDIT) if event.type == f"audit.{act}"]


def _short(data: Mapping[str, Any]) -> str:
    if "refused" in data:
        return f"{data['who']}: refused by {data['refused']}"
    if "verified" in data:
        return f"{data['who']}: {'gone' if data['verified'] else 'still ' + data['still']}"
    passed = "could" if data["dry_run"] else "passed"
    return f"{data['who']}: {passed}{''.join(f', overriding {name}' for name in data['overridden'])}"


def test_a_destroy_stage_that_a_guard_refuses_waits_and_is_tried_again(world: World) -> None:
    world.program(r"\./check", lambda call: into_traffic(world, call))
    push(world)
    world.advance(50)
    run, environment = the(world)
    stage = RunView.of(run).stages[-1]
    assert (run.state, environment.state) == (RunState.FINISHING, E.LEASED)
    assert "refused by guard traffic" in stage.reason
    assert "router front sends traffic to it; drain it first" in stage.reason
    assert [attempt.state for attempt in stage.attempts] == [AttemptState.WAITING]
    world.router.live.clear()
    world.advance(20)
    run, environment = the(world)
    assert (run.verdict, environment.state) == (Verdict.PASSED, E.DESTROYED)
    destroy = run.stage(StageName.DESTROY)
    assert (destroy.state, destroy.reason, len(destroy.attempts)) == (StageState.PASSED, "", 1)
    assert world.broken == []
    assert audit(world) == [f"{run.id}: refused by traffic", f"{run.id}: passed", f"{run.id}: gone"]


def test_a_destroy_stage_asks_again_also_while_its_nodes_are_being_built(world: World) -> None:
    world.cloud.slow = True
    push(world, {**USUAL, "timeout": "60s"})
    into_traffic(world)
    world.advance(80)
    run, environment = the(world)
    assert (run.stage(StageName.DESTROY).attempts[-1].state, environment.state) == (AttemptState.WAITING, E.BUILDING)
    world.router.live.clear()
    world.advance(20)
    run, environment = the(world)
    assert (run.verdict, environment.state) == (Verdict.ERROR, E.DESTROYED)
    assert world.cloud.nodes == {}


def test_a_router_that_cannot_be_asked_counts_as_one_that_sends_traffic(world: World) -> None:
    world.router.down = True
    push(world)
    run, _ = the(world)
    assert "perhaps router front, which cannot be asked" in run.stage(StageName.DESTROY).reason
    world.router.down = False
    world.advance(20)
    assert the(world)[0].verdict is Verdict.PASSED


def test_a_refusal_that_stays_ends_the_stage_with_the_guards_words(world: World) -> None:
    def given_away(*_: object) -> int:
        for one in world.books.environments.in_index("environments"):
            taken = replace(one.value, owner="staging-1", protected="staging of the shop")
            world.books.commit(world.books.environments.kind.put(taken.id, taken, one.version))
        return 0

    world.program(r"\./check", given_away)
    push(world)
    world.advance(40)
    run, environment = the(world)
    assert (run.verdict, run.state) == (Verdict.ERROR, RunState.FINISHED)
    assert "destroy: refused by guard protected" in run.reason
    assert run.stage(StageName.DESTROY).attempts[-1].code == "guard-refused"
    assert (environment.state, len(world.cloud.nodes)) == (E.LEASED, 1)


def test_a_build_that_failed_and_is_in_traffic_stays_without_keeping_others(world: World) -> None:
    world.cloud.slow = True
    push(world)
    _, first = the(world)
    world.router.live.add(first.id)
    ((key, view),) = world.cloud.nodes.items()
    world.cloud.finish()
    world.cloud.nodes[key] = replace(view, fault="no valid hypervisor", status=type(view.status)("error"))
    world.cloud.slow = False
    push(world, branch="other")
    world.advance(10)
    stays, other = world.all_environments()
    assert (stays.state, other.state) == (E.BUILDING, E.DESTROYED)
    assert "router front sends traffic to it" in stays.reason
    world.router.live.clear()
    world.advance(40)
    assert [one.state for one in world.all_environments()] == [E.DESTROYED, E.DESTROYED]
    assert [one.verdict for one in world.all_runs()] == [Verdict.PASSED, Verdict.PASSED], "built once more elsewhere"


def test_one_that_a_guard_refuses_does_not_keep_the_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.cloud.slow = True
    for branch in ("a", "b"):
        push(world, branch=branch)
    refused, _ = (one.id for one in world.all_environments())
    advance = world.work.lifecycle.advance

    def picky(id: str, *more: Any) -> Environment:
        if id == refused:
            raise GuardRefused("traffic", "it is live", "drain it first", passing=True)
        return advance(id, *more)

    monkeypatch.setattr(world.work.lifecycle, "advance", picky)
    world.cloud.finish()
    world.cloud.slow = False
    world.advance(10)
    assert [run.state for run in world.all_runs()] == [RunState.RUNNING, RunState.FINISHED]
    assert world.broken == []


def test_an_environment_is_destroyed_when_it_is_seen_to_be_gone(world: World) -> None:
    world.cloud.lies = 2
    push(world)
    run, environment = the(world)
    assert (environment.state, run.state) == (E.DESTROYING, RunState.FINISHING)
    assert "still there after it was destroyed: node web-0, its mark" in environment.fault
    world.advance(10)
    run, environment = the(world)
    assert (environment.state, run.verdict, world.cloud.nodes) == (E.DESTROYED, Verdict.PASSED, {})
    still = f"{run.id}: still node web-0, its mark"
    assert audit(world) == [f"{run.id}: passed", still, still, f"{run.id}: gone"]


def test_what_cannot_be_seen_is_not_gone(world: World) -> None:
    push(world, HELD, check=1)
    _, held = the(world)
    world.reaper.take_back(held.id, Asking(BY_HAND, "enough", {"held": "seen enough"}))
    world.cloud.fail_list.append(TransientError("no answer"))
    assert world.work.lifecycle.advance(held.id).state is E.DESTROYING
    world.advance(10)
    assert the(world)[1].state is E.DESTROYED


def test_several_that_go_are_looked_for_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for branch in ("a", "b", "c"):
        push(world, HELD, check=1, branch=branch)
    for one in world.all_environments():
        world.reaper.take_back(one.id, Asking(BY_HAND, "enough", {"held": "seen enough"}))
    world.clock.sleep(5)
    listing = Mock(side_effect=world.provider.driver.list)
    monkeypatch.setattr(world.provider.driver, "list", listing)
    assert [one.state for one in world.work.lifecycle.poll("cloud")] == [E.DESTROYED] * 3
    assert listing.call_count == 1


def test_a_leak_that_stays_is_told_and_tried_again(world: World) -> None:
    world.cloud.marks["env-leak"] = ("world", 0.0)
    world.cloud.lies = 1
    world.advance(100)
    assert audit(world, Act.REAP) == ["tick: passed", "tick: still its mark", "tick: passed", "tick: gone"]
    assert world.cloud.marks == {}


def test_leaks_that_cannot_be_taken_back_now_use_no_budget_up(world: World) -> None:
    for number in range(5):
        world.cloud.marks[f"env-leak-{number}"] = ("world", 0.0)
    world.cloud.fail_destroy = [TransientError("no answer") for _ in range(8)]
    world.advance(100)
    assert world.gate.spent("cloud") <= 2
    world.advance(400)
    assert world.cloud.marks == {}


def test_ends_of_leases_keep_to_the_budget_and_are_told_once_an_interval(world: World) -> None:
    for branch in ("a", "b", "c", "d", "e"):
        push(world, HELD, check=1, branch=branch)
    world.budgets["cloud"] = Budget(acts=2, interval_s=60)
    world.advance(1801)
    assert [one.state for one in world.all_environments()].count(E.HELD) == 3
    assert audit(world).count("tick: refused by budget") == 1
    world.advance(50)
    assert [one.state for one in world.all_environments()].count(E.HELD) == 3
    assert audit(world).count("tick: refused by budget") == 1
    world.advance(12)
    assert [one.state for one in world.all_environments()].count(E.HELD) == 1
    world.advance(62)
    assert {one.state for one in world.all_environments()} == {E.DESTROYED}
    assert audit(world).count("tick: passed") == 5


def test_a_spent_budget_keeps_neither_runs_nor_people(world: World) -> None:
    world.budgets["cloud"] = Budget(acts=0)
    push(world)
    assert the(world)[1].state is E.DESTROYED
    push(world, HELD, check=1, branch="other")
    world.control.release(world.all_runs()[1].id)
    world.settle()
    assert {one.state for one in world.all_environments()} == {E.DESTROYED}
    with pytest.raises(GuardRefused, match="0 of 0 such acts"):
        world.removals.begin(replace(the_last(world), state=E.LEASED), Asking(TICK, "for env-9"), act=Act.PREEMPT)


def test_a_budget_of_nothing_is_told_once_an_interval(world: World) -> None:
    for branch in ("a", "b"):
        push(world, HELD, check=1, branch=branch)
    world.budgets["cloud"] = Budget(acts=0, interval_s=60)
    world.advance(1801 + 50)
    assert {one.state for one in world.all_environments()} == {E.HELD}
    assert audit(world).count("tick: refused by budget") == 1
    world.advance(60)
    assert audit(world).count("tick: refused by budget") == 2


def the_last(world: World) -> Environment:
    return world.all_environments()[-1]


def test_two_processes_cannot_both_spend_the_last_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for branch in ("a", "b"):
        push(world, HELD, check=1, branch=branch)
    world.clock.sleep(2000)
    world.budgets["cloud"] = Budget(acts=1)
    one, other = (environment.id for environment in world.all_environments())
    commit = world.books.commit

    def meanwhile(*writes: Any, **more: Any) -> None:
        monkeypatch.setattr(world.books, "commit", commit)
        world.reaper.take_back(other, Asking(TICK, "its held time ended", again=True))
        commit(*writes, **more)

    monkeypatch.setattr(world.books, "commit", meanwhile)
    with pytest.raises(GuardRefused, match="budget"):
        world.reaper.take_back(one, Asking(TICK, "its held time ended", again=True))
    assert [environment.state for environment in world.all_environments()] == [E.HELD, E.DESTROYING]


def test_a_dry_run_says_what_the_act_would_and_changes_nothing(world: World) -> None:
    push(world, HELD, check=1)
    run, held = the(world)
    dry = Asking(BY_HAND, "seen enough", dry_run=True)
    world.control.release(run.id, dry)
    assert the(world)[1] == held
    into_traffic(world)
    for asking in (dry, replace(dry, dry_run=False)):
        with pytest.raises(GuardRefused, match="router front sends traffic to it"):
            world.control.release(run.id, asking)
    world.control.release(run.id, replace(dry, dry_run=False, overrides={"traffic": "a drill"}))
    world.settle()
    assert the(world)[1].state is E.DESTROYED
    refused = f"{BY_HAND}: refused by traffic"
    passed = f"{BY_HAND}: passed, overriding traffic"
    assert audit(world) == [f"{BY_HAND}: could", refused, refused, passed, f"{BY_HAND}: gone"]


def test_a_cancel_is_refused_as_its_destroy_stage_would_be_and_carries_its_overrides(world: World) -> None:
    world.cloud.slow = True
    push(world)
    run, _ = the(world)
    into_traffic(world)
    for dry_run in (True, False):
        with pytest.raises(GuardRefused, match="router front sends traffic to it"):
            world.control.cancel(run.id, Asking(BY_HAND, "wrong branch", dry_run=dry_run))
    override = {"traffic": "nobody looks at it"}
    assert world.control.cancel(run.id, Asking(BY_HAND, "x", override, dry_run=True)).state is RunState.RUNNING
    world.control.cancel(run.id, Asking(BY_HAND, "wrong branch", override))
    world.settle()
    run, environment = the(world)
    assert (run.verdict, run.reason, environment.state) == (Verdict.CANCELLED, "wrong branch", E.DESTROYED)
    assert f"{run.id}: passed, overriding traffic" in audit(world)


def test_an_operator_removes_what_was_adopted(world: World) -> None:
    world.cloud.marks["env-orphan"] = ("world", world.clock.now() + 10_000)
    world.advance(70)
    orphan = the_last(world)
    assert orphan.state is E.ADOPTED
    world.reaper.take_back(orphan.id, Asking(BY_HAND, "nobody's"))
    world.settle()
    assert (the_last(world).state, the_last(world).ended_by) == (E.DESTROYED, BY_HAND)
    assert audit(world) == [f"{BY_HAND}: passed", f"{BY_HAND}: gone"]
