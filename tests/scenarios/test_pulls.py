"""Pull requests with an environment each: opened, pushed to, closed; in any order, with deaths in between."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import TransientError
from pipeline.domain.intake import TriggerState
from pipeline.domain.leases import may_end
from pipeline.domain.projects import Quota
from pipeline.domain.pulls import Pull
from pipeline.domain.runs import RunState, Verdict
from pipeline.domain.traffic import Backend, Reading
from pipeline.domain.triggers import PULL, Trigger, TriggerKind
from pipeline.envs import jobs
from pipeline.envs.gate import Asking
from pipeline.ports.stores import JobRequest
from pipeline.stages.requests import Answer, Request
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World, repository_of

E = EnvironmentState
HOST = "shop-pr-12.test.example"
LANE = f"{repository_of('shop')}{PULL}12"
OPENED_AT = 1_000.0


def asking(**more: Any) -> dict[str, Any]:
    """A greenroom.yml that wants an environment for each pull request, and answers requests."""
    return {
        **USUAL,
        "on": {"pull_request": {"environment": True, **more}},
        "deploy": [{"role": "web", "to": "/srv/shop", "ready": {"http": ":8080/health"}}],
    }


class Forge:
    """Whoever opens, pushes to and closes pull request 12; each thing happens a second after the one before."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.at = OPENED_AT

    def commit(self, name: str, blueprint: Any = None) -> str:
        text = json.dumps(blueprint if blueprint is not None else asking())
        return self.world.repositories.commit(repository_of("shop"), name, {"greenroom.yml": text.encode()})

    def event(self, sha: str, at: float | None = None, **changes: Any) -> Trigger:
        self.at += 1
        told = Trigger(
            TriggerKind.PULL_REQUEST, "github", repository_of("shop"), sha, slug="acme/shop", branch="feature",
            target="main", number=12, actor="ada", message="A new door", url="https://forge.test/acme/shop/pull/12",
            happened_at=self.at if at is None else at,
        )  # fmt: skip
        return replace(told, **changes)

    def push(self, sha: str, **changes: Any) -> str:
        return self.world.trigger("shop", self.event(sha, **changes))

    def close(self, at: float | None = None) -> None:
        self.at += 1
        now = str(self.world.clock.now())
        args = ("shop", LANE, now, str(self.at if at is None else at))
        id = f"delivery-{self.world.ids.new('end')}"
        self.world.books.commit(jobs=[JobRequest(id, jobs.TICK_QUEUE, jobs.END_LANE, args)])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return prepared(tmp_path)


@pytest.fixture
def forge(world: World) -> Forge:
    return Forge(world)


def prepared(tmp_path: Path) -> World:
    world = usual_world(tmp_path)
    world.program("curl --fail", lambda _: 0)
    return world


def pull(world: World) -> Pull:
    return world.books.pulls.get("shop-pr-12").value


def of_pulls(world: World) -> list[Environment]:
    """All environments that were ever made for pull requests, the oldest first."""
    found = [one for one in world.all_environments() if one.contract is not None]
    return sorted(found, key=lambda one: one.created_at)


def standing(world: World) -> list[Environment]:
    return [one for one in of_pulls(world) if not one.final]


def said(world: World) -> str:
    """The one comment as it is now, without its mark."""
    (texts,) = world.forge.comments.values()
    return texts[-1].rpartition("\n\n")[0]


def leads_to(world: World) -> list[str]:
    """The environments to which the pull request's name leads."""
    return [id for id, backend in world.router.backends.items() if backend.host == HOST]


def test_an_opened_one_gets_an_environment_with_a_name_and_a_comment(world: World, forge: Forge) -> None:
    sha = forge.commit("one")
    forge.push(sha)
    world.advance(3)
    (one,) = of_pulls(world)
    contract = one.contract
    assert contract is not None
    assert (one.state, contract.owner, contract.name) == (E.LEASED, "pull request 12", "pr-12")
    assert (contract.url, contract.host) == ("https://forge.test/acme/shop/pull/12", HOST)
    assert contract.why == f"{sha[:12]}: A new door"
    assert "its pull request is closed, or an environment of a newer commit takes its place" in may_end(one)
    assert leads_to(world) == [one.id]
    assert f"Environment of {sha[:12]}: http://{HOST}" in said(world)
    assert "at the latest 2h after it stood" in said(world)
    assert world.requests.find("pr-12", "shop").id == one.id
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED] * 2  # its tests, and what prepared it


def test_its_own_time_to_live_holds(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one", asking(ttl="30m")))
    world.advance(3)
    assert "at the latest 30m" in said(world)
    world.advance(1800)
    assert [one.state for one in of_pulls(world)] == [E.DESTROYED]
    assert "leased time ended; push to it" in said(world)
    forge.push(forge.commit("two"))
    world.advance(3)
    assert leads_to(world) == [one.id for one in standing(world)]


def test_a_push_takes_its_place_when_it_is_ready(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    (old,) = of_pulls(world)
    second = forge.commit("two")
    forge.push(second)
    served = []
    for _ in range(10):
        world.advance(1)
        served.append(leads_to(world))
    (new,) = [one for one in standing(world) if one.id != old.id]
    assert all(len(one) == 1 for one in served)  # the name led to one of them all the time
    assert served[-1] == [new.id]
    assert said(world).startswith(f"Environment of {second[:12]}: http://{HOST}")
    world.advance(40)
    assert [one.id for one in standing(world)] == [new.id]
    assert old.id not in world.router.backends
    assert len(world.forge.comments) == 1


def test_there_is_no_moment_at_which_its_name_leads_nowhere(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    register, seen = world.router.register, list[list[str]]()

    def watched(backend: Backend) -> None:
        register(backend)
        seen.append(leads_to(world))

    monkeypatch.setattr(world.router, "register", watched)
    for name in ("two", "three", "four"):
        forge.push(forge.commit(name))
        world.advance(6)
    assert len({one for led in seen for one in led}) == 4
    assert all(len(led) == 1 for led in seen)


def test_what_is_open_at_the_old_one_may_end_by_itself(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    (old,) = of_pulls(world)
    world.router.traffic[old.id] = (3, 100, 0)
    forge.push(forge.commit("two"))
    world.advance(10)
    assert len(standing(world)) == 2
    world.router.traffic[old.id] = (0, 103, 0)
    world.advance(2)
    assert len(standing(world)) == 1


def test_one_that_is_not_well_takes_over_only_after_a_while(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    before = leads_to(world)
    monkeypatch.setattr(world.router, "reading", lambda _: Reading(0, 0, 0, up=0, targets=1))
    forge.push(forge.commit("two"))
    world.advance(10)
    assert len(standing(world)) == 2
    assert leads_to(world) == before
    world.advance(10)
    assert leads_to(world) != before


def test_closed_it_ends(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    forge.close()
    forge.close()
    world.advance(2)
    assert [one.state for one in of_pulls(world)] == [E.DESTROYED]
    assert of_pulls(world)[0].reason == "its pull request was closed"
    assert said(world) == "The pull request was closed, and its environment with it."
    assert world.router.backends == {}
    told = [event.data["target"] for event in world.store.events("audit") if event.type == "audit.destroy"]
    assert of_pulls(world)[0].id in told
    history = [(event.type, event.data["pull"]) for event in world.store.events("pulls")]
    assert history == [(f"pull.{what}", "shop-pr-12") for what in ("wanted", "serving", "closed")]


def test_a_closed_one_is_known_for_a_month(world: World, forge: Forge) -> None:
    sha = forge.commit("one")
    forge.close(at=2_000)
    world.advance(1)
    assert not pull(world).open
    forge.push(sha, at=2_001)
    world.advance(3)
    forge.close(at=2_002)
    world.advance(3)
    world.clock.sleep(29 * 86_400)
    assert not pull(world).open
    world.clock.sleep(2 * 86_400)
    assert world.books.pulls.find("shop-pr-12") is None


def test_opened_again_it_gets_another_one(world: World, forge: Forge) -> None:
    sha = forge.commit("one")
    for _ in range(2):
        forge.push(sha)
        world.advance(3)
        forge.close()
        world.advance(2)
    forge.push(sha)
    world.advance(3)
    assert [one.state for one in of_pulls(world)] == [E.DESTROYED, E.DESTROYED, E.LEASED]
    assert len(world.forge.comments) == 1


@pytest.mark.parametrize("seconds", [0, 1])
def test_closed_before_it_is_ready_nothing_is_left(world: World, forge: Forge, seconds: float) -> None:
    forge.push(forge.commit("one"))
    world._step()  # its plan was handed over, and nothing else
    world.advance(seconds)
    forge.close()
    world.advance(5)
    assert standing(world) == []
    assert all(run.state is RunState.FINISHED for run in world.all_runs())
    assert not pull(world).open


def test_a_close_that_comes_before_what_it_closes_holds(world: World, forge: Forge) -> None:
    forge.close(at=2_000)
    world.advance(1)
    trigger = forge.push(forge.commit("one"), at=1_999)
    world.advance(5)
    record = world.books.triggers.get(trigger).value
    assert (record.state, record.reason) == (TriggerState.IGNORED, "its pull request was closed")
    assert (of_pulls(world), world.all_runs(), world.forge.comments) == ([], [], {})
    forge.push(forge.commit("two"), at=2_001)
    world.advance(5)
    assert len(standing(world)) == 1


def test_a_late_push_changes_nothing(world: World, forge: Forge) -> None:
    newest, older = forge.commit("two"), forge.commit("one")
    forge.push(newest, at=1_010)
    world.advance(3)
    forge.push(older, at=1_009)
    world.advance(5)
    assert pull(world).newest == newest
    assert len(of_pulls(world)) == 1


@pytest.mark.parametrize("seconds", [0, 3])
def test_a_late_close_changes_nothing(world: World, forge: Forge, seconds: float) -> None:
    forge.push(forge.commit("one"), at=1_010)
    world.advance(seconds)
    forge.close(at=1_005)
    world.advance(3)
    assert len(standing(world)) == 1
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED] * 2


def test_a_late_close_ends_no_run_of_a_newer_push(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"), at=1_010)
    world._step()  # its plan is asked for
    world._do_jobs()
    assert [run.state for run in world.all_runs()] == [RunState.PENDING]
    forge.close(at=1_005)
    world.advance(3)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED] * 2


def test_one_whose_asker_died_before_he_wrote_it_down_leaves_when_a_newer_commit_comes(
    world: World, forge: Forge, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = world.requests.make

    def dies(request: Request) -> Answer:
        monkeypatch.undo()
        make(request)
        world.grave.die("begin_pull")

    monkeypatch.setattr(world.requests, "make", dies)
    forge.push(forge.commit("one"))
    world._step()  # so that nobody asks again before the next push
    world._do_jobs()
    world._step()
    world._do_jobs()
    forge.push(forge.commit("two"))
    world.advance(60)
    assert len(of_pulls(world)) == 2
    (one,) = standing(world)
    assert leads_to(world) == [one.id]


def test_a_name_that_somebody_has_is_left_to_them(world: World, forge: Forge) -> None:
    text = json.dumps({**USUAL, "deploy": [], "test": [], "environment": {"image": "debian-12", "roles": {"web": {}}}})
    theirs = world.requests.make(Request("shop", "ada", blueprint=text, name="pr-12")).environment
    forge.push(forge.commit("one"))
    world.advance(3)
    assert world.requests.find("pr-12", "shop").id == theirs.id
    assert len(leads_to(world)) == 1


def test_a_project_goes_with_what_is_known_of_its_pull_requests(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    world.requests.release(of_pulls(world)[0].id, Asking("ada", "done"))
    world.advance(3)
    world.projects.remove("shop", Asking("ada", "done"))
    assert world.books.pulls.find("shop-pr-12") is None


def test_without_a_router_it_is_told_how_to_log_in(world: World, forge: Forge) -> None:
    world.tick.pulls.router, world.tick.pulls.base_domain = None, ""
    for name in ("one", "two"):
        forge.push(forge.commit(name))
        world.advance(3)
    assert "which has no address of its own" in said(world)
    assert "`greenroom env ssh pr-12`" in said(world)
    world.advance(3)
    assert len(standing(world)) == 1


def test_told_twice_it_is_made_once(world: World, forge: Forge) -> None:
    sha = forge.commit("one")
    forge.push(sha, at=1_010)
    forge.push(sha, at=1_010)
    world.advance(3)
    forge.push(sha, at=1_011)
    world.advance(3)
    assert len(of_pulls(world)) == 1


def test_only_the_newest_of_several_pushes_stays(world: World, forge: Forge) -> None:
    shas = [forge.commit(f"c{number}") for number in range(4)]
    for sha in shas:
        forge.push(sha)
        world.settle()
    world.advance(60)
    (one,) = standing(world)
    assert one.contract is not None
    assert one.contract.why.startswith(shas[-1][:12])


def test_a_fork_runs_nothing_and_gets_nothing(world: World, forge: Forge) -> None:
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": json.dumps(asking()).encode()})
    trigger = forge.push(forge.commit("stranger", asking(forks=True)), fork=True)
    world.advance(3)
    record = world.books.triggers.get(trigger).value
    assert record.state is TriggerState.IGNORED
    assert "it comes from a fork, and on.pull_request.forks of main does not let those in" in record.reason
    assert (world.all_runs(), of_pulls(world), world.forge.comments, world.forge.reported) == ([], [], {}, [])


def test_a_fork_that_the_target_branch_lets_in_runs_and_has_no_environment(world: World, forge: Forge) -> None:
    lets_in = json.dumps(asking(forks=True)).encode()
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": lets_in})
    forge.push(forge.commit("stranger"), fork=True)
    world.advance(3)
    assert [run.verdict for run in world.all_runs()] == [Verdict.PASSED]
    assert (of_pulls(world), world.forge.comments) == ([], {})


def test_a_fork_is_judged_where_it_wants_to_merge_into(world: World, forge: Forge) -> None:
    lets_in, own = json.dumps(asking(forks=True)).encode(), json.dumps(asking()).encode()
    theirs = "https://forge.test/stranger/shop.git"
    for repository, text in ((repository_of("shop"), own), (theirs, lets_in)):
        world.repositories.commit(repository, "main", {"greenroom.yml": text})
    sha = world.repositories.commit(theirs, "door", {"greenroom.yml": lets_in})
    trigger = forge.push(sha, fork=True, repository=theirs, home=repository_of("shop"))
    world.advance(3)
    assert "does not let those in" in world.books.triggers.get(trigger).value.reason
    secret = forge.push(sha, fork=True, repository=theirs, home="/srv/secret.git")
    world.advance(3)
    (run,) = world.all_runs()
    assert run.trigger_id == secret
    assert "may not use /srv/secret.git" in run.reason


def limited(world: World, most: int) -> None:
    loaded = world.books.projects.get("shop")
    project = replace(loaded.value, quota=Quota(environments=most))
    world.books.commit(world.books.projects.kind.put("shop", project, loaded.version))


def test_over_the_quota_the_comment_says_so(world: World, forge: Forge) -> None:
    limited(world, 0)
    sha = forge.commit("one")
    forge.push(sha)
    world.advance(3)
    assert of_pulls(world) == []
    assert said(world).startswith(f"`{sha[:12]} has no environment: an environment of project shop is over")


def test_a_mistake_in_a_newer_commit_leaves_the_old_one(world: World, forge: Forge) -> None:
    first = forge.commit("one")
    forge.push(first)
    world.advance(3)
    second = forge.commit("two", {"version": 1})
    forge.push(second)
    world.advance(3)
    assert len(standing(world)) == 1
    assert said(world).startswith(f"Environment of {first[:12]}")
    assert f"`{second[:12]} has no environment: " in said(world)


def test_one_whose_deploy_fails_leaves_the_old_one(world: World, forge: Forge) -> None:
    first = forge.commit("one")
    forge.push(first)
    world.advance(3)
    (old,) = of_pulls(world)
    second = forge.commit("two")
    world.commands.insert(0, (re.compile("current.new"), lambda _: 1))
    forge.push(second)
    world.advance(5)
    assert [one.id for one in standing(world)] == [old.id]
    assert leads_to(world) == [old.id]
    assert f"`{second[:12]} has no environment: run " in said(world)


def test_without_the_wish_it_goes(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    forge.push(forge.commit("two", {**asking(), "on": {"pull_request": {}}}))
    world.advance(3)
    assert standing(world) == []
    assert said(world) == "It has no environment now."


def test_given_back_it_is_told(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    world.requests.release(of_pulls(world)[0].id, Asking("ada", "seen enough"))
    world.advance(6)
    assert standing(world) == []
    assert "seen enough; push to it" in said(world)


def test_what_a_person_protects_stays_as_long_as_they_say(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(3)
    (one,) = of_pulls(world)
    world.leases.protect(one.id, "the demo is at noon")
    forge.close()
    world.advance(5)
    assert [one.state for one in of_pulls(world)] == [E.LEASED]
    world.leases.protect(one.id, "")
    world.advance(5)
    assert standing(world) == []


def test_a_forge_that_does_not_answer_keeps_no_environment_waiting(world: World, forge: Forge) -> None:
    world.forge.refusals = [TransientError("away")] * 6
    forge.push(forge.commit("one"))
    world.advance(3)
    assert leads_to(world) == [of_pulls(world)[0].id]
    world.advance(120)
    assert f"http://{HOST}" in said(world)


def test_a_comment_whose_writer_died_is_not_written_twice(world: World, forge: Forge) -> None:
    world.forge.deaf = [TransientError("the answer was lost")]
    forge.push(forge.commit("one"))
    world.advance(60)
    assert len(world.forge.comments) == 1
    assert f"http://{HOST}" in said(world)


def whole_life(world: World, forge: Forge) -> None:
    forge.push(forge.commit("one"))
    world.advance(9)
    forge.push(forge.commit("two"))
    world.advance(20)
    forge.close()
    world.advance(20)


@cache
def places() -> tuple[tuple[str, int], ...]:
    """What a life without a death passes, in order: whoever dies before a write of a worker did so after the last."""
    with TemporaryDirectory() as scratch:
        world = prepared(Path(scratch))
        whole_life(world, Forge(world))
    return tuple(one for one in world.grave.counted() if one[0] != "worker before write")


PARTS = 5


@pytest.mark.parametrize("part", range(PARTS))
def test_whoever_dies_wherever_nothing_is_left_and_nothing_is_made_twice(tmp_path: Path, part: int) -> None:
    assert len(places()) > 100
    for number, (where, count) in enumerate(places()[part::PARTS]):
        world = prepared(tmp_path / str(number))
        world.grave.dig(where, count)
        forge = Forge(world)
        forge.push(forge.commit("one"))
        world.advance(9)
        forge.push(forge.commit("two"))
        world.advance(20)
        place = (where, count)
        assert len(leads_to(world)) == 1, place
        assert len(standing(world)) == 1, place
        forge.close()
        world.advance(20)
        assert standing(world) == [], place
        assert world.provider.driver.list().environments == (), place
        assert len(world.forge.comments) == 1, place
