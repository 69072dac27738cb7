"""From triggers to runs, where scenarios do not look: shortened commits, providers, priorities, what is done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.blueprint import Priority
from pipeline.domain.errors import PermanentError, TransientError
from pipeline.domain.intake import TriggerState
from pipeline.domain.runs import RunState, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from tests.scenarios.player import USUAL
from tests.scenarios.world import World, repository_of

URL = repository_of("shop")


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(str(tmp_path))
    world.project("shop")
    return world


def trigger(kind: TriggerKind, sha: str, **more: str) -> Trigger:
    return Trigger(kind, "github", URL, sha, slug="shop", **more)  # type: ignore[arg-type]  # fields by name


def commit(world: World, branch: str = "main") -> str:
    world.push("shop", USUAL, branch=branch)
    return world.repositories.resolve(URL, branch)


def test_a_shortened_commit_is_resolved_before_it_is_kept(world: World) -> None:
    sha = commit(world)
    id = world.trigger("shop", trigger(TriggerKind.PUSH, sha[:12], branch="main"))
    world.work.plan_trigger(id)
    assert world.all_runs()[-1].trigger.sha == sha


def test_a_commit_that_is_not_there_is_a_failed_run(world: World) -> None:
    commit(world)
    world.work.plan_trigger(world.trigger("shop", trigger(TriggerKind.PUSH, "f" * 40, branch="main")))
    (run,) = world.all_runs()
    assert (run.state, run.verdict) == (RunState.FINISHED, Verdict.FAILED)
    assert "has no commit" in run.reason


def test_planning_twice_makes_one_run(world: World) -> None:
    id = world.push("shop", USUAL)
    world.work.plan_trigger(id)
    world.work.plan_trigger(id)
    (run,) = world.all_runs()
    record = world.books.triggers.get(id).value
    assert (record.state, record.run_id, run.trigger_id) == (TriggerState.PLANNED, run.id, id)


@pytest.mark.parametrize(
    ("kind", "priority"),
    [
        (TriggerKind.API, Priority.INTERACTIVE),
        (TriggerKind.PUSH, Priority.PUSH),
        (TriggerKind.SCHEDULE, Priority.NIGHTLY),
    ],
)
def test_the_kind_of_trigger_decides_who_goes_first(world: World, kind: TriggerKind, priority: Priority) -> None:
    sha = commit(world)
    world.work.plan_trigger(world.trigger("shop", trigger(kind, sha, branch="main")))
    assert world.all_runs()[-1].priority is priority


def test_pull_requests_run_only_where_they_are_asked_for(world: World) -> None:
    sha = commit(world)
    pull = replace(trigger(TriggerKind.PULL_REQUEST, sha, branch="feature", target="main"), number=7)
    id = world.trigger("shop", pull)
    world.work.plan_trigger(id)
    record = world.books.triggers.get(id).value
    assert (record.state, record.reason) == (TriggerState.IGNORED, "on: pull_request is not set")


def test_a_repository_that_refuses_us_is_an_error_at_once(world: World) -> None:
    id = world.push("shop", USUAL)
    world.repositories.fail_next(PermanentError("refused us"))
    world.work.plan_trigger(id)
    (run,) = world.all_runs()
    assert (run.verdict, run.reason) == (Verdict.ERROR, "refused us")


def test_a_repository_out_of_reach_is_asked_again_later(world: World) -> None:
    id = world.push("shop", USUAL)
    world.repositories.fail_next(TransientError("away"))
    world.work.plan_trigger(id)
    record = world.books.triggers.get(id).value
    assert (record.state, record.tries, record.reason) == (TriggerState.RECEIVED, 1, "away")
    assert record.due_at > world.clock.now()


def test_the_token_of_the_project_opens_its_repository(world: World) -> None:
    url = repository_of("blog")
    world.project("blog", repository=url)
    id = world.push("blog", USUAL)
    project = world.books.projects.get("blog").value
    world.repositories.lock(url, world.secrets.open(project.sealed_forge_token))
    world.work.plan_trigger(id)
    assert world.all_runs()[0].state is RunState.PENDING


def test_the_token_goes_to_no_other_host(world: World) -> None:
    project = world.books.projects.get("shop").value
    elsewhere = "https://elsewhere.test/shop.git"
    sha = world.repositories.commit(elsewhere, "main", {"greenroom.yml": b""})
    world.repositories.lock(elsewhere, world.secrets.open(project.sealed_forge_token))
    world.work.plan_trigger(world.trigger("shop", Trigger(TriggerKind.PUSH, "github", elsewhere, sha, branch="main")))
    (run,) = world.all_runs()
    assert (run.verdict, run.reason) == (Verdict.ERROR, f"{elsewhere} refused us; check the project's token or key")


def test_a_delivery_names_only_local_repositories_that_are_allowed(world: World) -> None:
    sha = world.repositories.commit("/srv/git/shop.git", "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    local = Trigger(TriggerKind.PUSH, "plain", "/srv/git/shop.git", sha, branch="main")
    world.work.plan_trigger(world.trigger("shop", local))
    world.projects.allow_local("shop", "/srv/git/shop.git")
    world.work.plan_trigger(world.trigger("shop", local))
    refused, taken = world.all_runs()
    assert (refused.verdict, taken.state) == (Verdict.FAILED, RunState.PENDING)
    assert "/srv/git/shop.git" in refused.reason


def test_a_project_may_have_a_provider_of_its_own(world: World) -> None:
    loaded = world.books.projects.get("shop")
    moon = replace(loaded.value, provider="moon")
    world.books.commit(world.books.projects.kind.put("shop", moon, loaded.version))
    world.work.plan_trigger(world.push("shop", USUAL))
    (run,) = world.all_runs()
    assert run.verdict is Verdict.FAILED
    assert "no provider 'moon'" in run.reason
