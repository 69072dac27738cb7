"""Schedules in a whole deployment: started once per due time whoever dies, from the API and from greenroom.yml."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.domain.blueprint import Missed, Overlap, Priority, ScheduleSpec
from pipeline.domain.errors import AlreadyExists, Fenced, InvalidTransition, NotFound, UserError
from pipeline.domain.runs import Run, Verdict
from pipeline.domain.schedules import Due, Schedule, Source
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs.gate import Asking
from pipeline.stages.schedule_files import ScheduleFiles
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World, repository_of

URL = repository_of("shop")
EVERY_HOUR = ScheduleSpec("0 * * * *", "main")
HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One commit, whose push was done with."""
    world = usual_world(tmp_path)
    world.push("shop", USUAL)
    world.advance(30)
    return world


def scheduled(world: World) -> list[Run]:
    return [run for run in world.all_runs() if run.trigger.kind is TriggerKind.SCHEDULE]


def until_due(world: World, schedule: Schedule) -> None:
    world.clock.sleep(world.schedules.get(schedule.id).due_at - world.clock.now())


def test_a_schedule_starts_a_nightly_run_of_its_branch_at_each_due_time(world: World) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    for number in (1, 2, 3):
        until_due(world, schedule)
        world.advance(60)
        runs = scheduled(world)
        assert len(runs) == number
    (told,) = {(run.priority, run.verdict, run.trigger.branch) for run in runs}
    assert told == (Priority.NIGHTLY, Verdict.PASSED, "main")
    assert world.schedules.get(schedule.id).last is Due.STARTED


@pytest.mark.parametrize("where", ["tick before write", "tick after write"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_tick_that_dies_on_the_way_starts_neither_none_nor_two(world: World, where: str, write: int) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    until_due(world, schedule)
    world.grave.dig(where, write)
    world.advance(60)
    assert [run.trigger_id for run in scheduled(world)] == [f"trg-{schedule.id}-{int(schedule.due_at)}"]


def test_a_leader_that_was_replaced_starts_nothing(world: World) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    until_due(world, schedule)
    late = world.fence
    world.take_over()
    with pytest.raises(Fenced):
        world.schedules.start(schedule.id, late)
    world.advance(60)
    assert len(scheduled(world)) == 1


def test_a_clock_that_jumps_back_repeats_no_due_time_and_holds_none_up(world: World) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    until_due(world, schedule)
    world.advance(60)
    world.clock.time -= 600
    world.advance(1)
    assert world.schedules.get(schedule.id).due_at == schedule.due_at
    world.advance(600)
    assert len(scheduled(world)) == 1
    assert world.schedules.get(schedule.id).due_at == schedule.due_at + HOUR


@pytest.mark.parametrize(("overlap", "runs"), [(Overlap.SKIP, 1), (Overlap.ALLOW, 2)])
def test_a_run_that_is_not_finished_holds_the_next_up_unless_they_may_overlap(
    world: World, overlap: Overlap, runs: int
) -> None:
    world.project("idle", max_runs=0)
    world.repositories.commit(repository_of("idle"), "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    schedule = world.schedules.add("idle", "", replace(EVERY_HOUR, overlap=overlap))
    for _ in range(2):
        until_due(world, schedule)
        world.advance(5)
    assert len(scheduled(world)) == runs
    told = world.schedules.get(schedule.id)
    assert told.last is (Due.OVERLAPPED if overlap is Overlap.SKIP else Due.STARTED)
    assert ("is not finished" in told.last_reason) is (overlap is Overlap.SKIP)


@pytest.mark.parametrize(("missed", "runs"), [(Missed.RUN_ONCE, 1), (Missed.SKIP, 0)])
def test_what_nobody_could_start_is_done_as_configured(world: World, missed: Missed, runs: int) -> None:
    schedule = world.schedules.add("shop", "", replace(EVERY_HOUR, missed=missed))
    world.clock.sleep(5.5 * HOUR)
    world.take_over()
    world.advance(60)
    assert len(scheduled(world)) == runs
    now = world.schedules.get(schedule.id)
    assert now.last is (Due.STARTED if runs else Due.MISSED)
    assert world.clock.now() < now.due_at < world.clock.now() + HOUR


def test_run_now_leaves_the_due_times_and_waits_for_the_last_run(world: World) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    record = world.schedules.run_now(schedule.id, "anna")
    with pytest.raises(InvalidTransition, match=f"trigger {record.id} of schedule"):
        world.schedules.run_now(schedule.id, "anna")
    world.advance(30)
    (run,) = scheduled(world)
    assert (run.trigger.actor, run.priority, run.verdict) == ("anna", Priority.NIGHTLY, Verdict.PASSED)
    assert world.schedules.get(schedule.id).due_at == schedule.due_at
    assert world.schedules.run_now(schedule.id, "anna").id != record.id


def test_what_cannot_be_asked_for_is_refused(world: World) -> None:
    with pytest.raises(NotFound, match="no project nobody"):
        world.schedules.add("nobody", "", EVERY_HOUR)
    with pytest.raises(UserError, match="reads like an option"):
        world.schedules.add("shop", "", replace(EVERY_HOUR, branch="--upload-pack=x"))
    with pytest.raises(UserError, match="is no repository URL"):
        world.schedules.add("shop", "ext::sh", EVERY_HOUR)
    made = world.schedules.add("shop", "", EVERY_HOUR)
    with pytest.raises(AlreadyExists, match=made.id):
        world.schedules.add("shop", "", EVERY_HOUR)
    with pytest.raises(NotFound, match="no schedule 'sch-none'"):
        world.schedules.run_now("sch-none", "anna")


def test_removing_needs_no_dry_run_and_ends_the_due_times(world: World) -> None:
    schedule = world.schedules.add("shop", "", EVERY_HOUR)
    world.schedules.remove(schedule.id, Asking("anna", "tired of it", dry_run=True))
    assert world.schedules.all("shop") == [schedule]
    world.schedules.remove(schedule.id, Asking("anna", "tired of it"))
    until = world.clock.now() + 2 * HOUR
    world.clock.sleep(2 * HOUR)
    world.advance(5)
    assert (world.schedules.all(), scheduled(world)) == ([], [])
    assert world.clock.now() >= until


def test_a_project_takes_its_schedules_along(world: World) -> None:
    world.schedules.add("shop", "", EVERY_HOUR)
    world.projects.remove("shop", Asking("anna", "over", dry_run=True))
    assert len(world.schedules.all("shop")) == 1
    world.projects.remove("shop", Asking("anna", "over"))
    assert world.schedules.all() == []


# greenroom.yml

NIGHTLY = {"cron": "0 * * * *", "branch": "main"}
WEEKLY = {"cron": "0 3 * * 6", "branch": "release", "timezone": "Europe/Berlin", "priority": "push", "overlap": "allow"}


def asked(*entries: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**USUAL, "on": {"push": {}, "schedule": list(entries)}}


def in_force(world: World) -> list[tuple[str, str, Source]]:
    return sorted((one.spec.cron, one.spec.branch, one.source) for one in world.schedules.all("shop"))


def test_a_push_of_the_default_branch_puts_the_schedules_of_its_file_in_force(world: World) -> None:
    world.push("shop", asked(NIGHTLY, WEEKLY))
    world.advance(30)
    assert in_force(world) == [("0 * * * *", "main", Source.FILE), ("0 3 * * 6", "release", Source.FILE)]
    nightly, weekly = sorted(world.schedules.all("shop"), key=lambda one: one.spec.cron)
    assert weekly.spec == ScheduleSpec(
        "0 3 * * 6", "release", Priority.PUSH, "Europe/Berlin", Overlap.ALLOW, Missed.RUN_ONCE
    )
    until_due(world, nightly)
    world.advance(30)
    assert len(scheduled(world)) == 1


def test_what_leaves_the_file_goes_and_what_stays_keeps_its_time(world: World) -> None:
    by_hand = world.schedules.add("shop", "", EVERY_HOUR)
    world.push("shop", asked(NIGHTLY, WEEKLY))
    world.advance(2 * HOUR)
    before = next(one for one in world.schedules.all() if one.spec.cron == NIGHTLY["cron"] and one.id != by_hand.id)
    world.push("shop", asked(NIGHTLY))
    world.advance(5)
    assert world.schedules.get(before.id) == before
    world.push("shop", USUAL)
    world.advance(5)
    assert [one.id for one in world.schedules.all()] == [by_hand.id]


def test_other_branches_and_pull_requests_change_no_schedule(world: World) -> None:
    world.push("shop", asked(NIGHTLY))
    world.advance(5)
    side = world.repositories.commit(URL, "side", {"greenroom.yml": json.dumps(asked(WEEKLY)).encode()})
    world.push("shop", asked(NIGHTLY))  # the default branch is what HEAD names
    world.trigger("shop", Trigger(TriggerKind.PUSH, "github", URL, side, slug="shop", branch="side"))
    world.trigger("shop", Trigger(TriggerKind.PULL_REQUEST, "github", URL, side, slug="shop", target="main", number=1))
    world.advance(5)
    assert in_force(world) == [("0 * * * *", "main", Source.FILE)]


def test_an_older_push_that_is_planned_late_undoes_nothing(world: World) -> None:
    first = world.push("shop", asked(WEEKLY))
    second = world.push("shop", asked(NIGHTLY))
    world.work.plan_trigger(second)
    trigger = world.books.triggers.get(first).value
    newest = replace(trigger.trigger, sha=world.repositories.resolve(URL, "HEAD"))
    ScheduleFiles(world.tools).take_over(trigger, newest, (ScheduleSpec("0 3 * * 6", "release"),), None)
    assert in_force(world) == [("0 * * * *", "main", Source.FILE)]


def test_a_push_that_its_filters_ignore_puts_its_schedules_in_force_all_the_same(world: World) -> None:
    world.push("shop", {**USUAL, "on": {"schedule": [NIGHTLY]}})
    world.advance(5)
    assert in_force(world) == [("0 * * * *", "main", Source.FILE)]


def test_a_file_with_a_mistake_leaves_the_schedules_as_they_are(world: World) -> None:
    world.push("shop", asked(NIGHTLY))
    world.advance(5)
    world.push("shop", asked({"cron": "0 25 * * *", "branch": "main"}))
    world.advance(5)
    assert in_force(world) == [("0 * * * *", "main", Source.FILE)]


def test_a_file_that_is_gone_takes_its_schedules_along(world: World) -> None:
    world.push("shop", asked(NIGHTLY))
    world.advance(5)
    world.push("shop", None)
    world.advance(5)
    assert in_force(world) == []


def test_a_repository_whose_head_names_nothing_runs_without_schedules(world: World) -> None:
    id = world.push("shop", asked(NIGHTLY))
    getattr(world.repositories, "_repositories")[URL].refs.pop("HEAD")  # noqa: B009  # as `git init` leaves it
    world.advance(30)
    run = world.books.runs.get(world.books.triggers.get(id).value.run_id).value
    assert (run.verdict, in_force(world)) == (Verdict.PASSED, [])


def test_what_stands_in_a_file_is_removed_there(world: World) -> None:
    world.push("shop", asked(NIGHTLY))
    world.advance(5)
    (one,) = world.schedules.all("shop")
    with pytest.raises(InvalidTransition, match=r"stands in the greenroom\.yml of"):
        world.schedules.remove(one.id, Asking("anna", "tired of it"))
