"""Projects: names, tokens and which repositories of this machine their deliveries may name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.adapters.blueprints.yaml12 import YamlBlueprintReader
from pipeline.domain.admission import Use
from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.errors import AlreadyExists, InvalidTransition, NotFound, UserError
from pipeline.domain.intake import TriggerState
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.placement.model import Placed, Unschedulable
from pipeline.domain.projects import ProjectChange, check_name, local_path
from pipeline.domain.rules import Affinity, Attribute, OperatorRule, Stance
from pipeline.domain.runs import RunState, Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.envs.gate import AUDIT, Asking
from pipeline.envs.placements import Placements
from pipeline.envs.preemption import Preemptions
from pipeline.envs.scheduler import Scheduler
from pipeline.ports.common import Secret
from pipeline.stages.context import host_of, project_token
from tests.scenarios.player import USUAL
from tests.scenarios.world import WorkerKilled, World

BLUEPRINT = b"version: 1\nservice: s\nenvironment: {image: debian-12, roles: {web: {}}}\ntest: []\n"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(str(tmp_path))


@pytest.mark.parametrize("name", ["a", "shop", "shop-2", "a" * 40])
def test_good_names(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", "-a", "a-", "A", "a_b", "a/b", "a" * 41, "ä"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="project name"):
        check_name(name)


def test_a_name_is_given_once(world: World) -> None:
    world.project("shop")
    with pytest.raises(AlreadyExists, match="a project shop already; `greenroom project set shop` changes it"):
        world.project("shop")


@pytest.mark.parametrize(
    ("repository", "path"),
    [("/srv/a.git", "/srv/a.git"), ("file:///srv/a.git", "/srv/a.git"), ("https://a.test/b", ""), ("git@a.test:b", "")],
)
def test_local_paths(repository: str, path: str) -> None:
    assert local_path(repository) == path


@pytest.mark.parametrize(
    ("repository", "host"),
    [
        ("https://user@Forge.test/a", "forge.test"),
        ("https://forge.test:8443/a", "forge.test:8443"),
        ("git@forge.test:a/b", "forge.test"),
        ("/srv/a.git", ""),
    ],
)
def test_hosts(repository: str, host: str) -> None:
    assert host_of(repository) == host


def test_the_token_goes_to_the_projects_own_host_alone(world: World) -> None:
    world.project("shop", repository="https://forge.test/shop.git")
    ours = project_token(world.books, world.secrets, "shop", "https://forge.test/other.git")
    assert ours is not None
    assert ours.reveal() == "forge-token"
    assert project_token(world.books, world.secrets, "shop", "https://elsewhere.test/shop.git") is None


def _push_from(world: World, repository: str) -> None:
    sha = world.repositories.commit(repository, "main", {"greenroom.yml": BLUEPRINT})
    world.trigger("shop", Trigger(TriggerKind.PUSH, "plain", repository, sha, branch="main"))
    world.settle()


def test_a_delivery_may_not_name_any_repository_of_this_machine(world: World) -> None:
    world.project("shop")
    _push_from(world, "/srv/secret.git")
    run = world.all_runs()[-1]
    assert run.verdict is Verdict.FAILED
    assert "greenroom hook install /srv/secret.git --project shop" in run.reason
    assert world.repositories.calls == []


def test_a_repository_with_an_installed_hook_may_be_named(world: World) -> None:
    world.project("shop")
    world.projects.allow_local("shop", "file:///srv/shop.git")
    world.projects.allow_local("shop", "/srv/shop.git")
    _push_from(world, "/srv/shop.git")
    assert world.all_runs()[-1].verdict is Verdict.PASSED
    assert world.books.projects.get("shop").value.local_repositories == ("/srv/shop.git",)


def test_only_paths_are_allowed_as_local(world: World) -> None:
    world.project("shop")
    with pytest.raises(UserError, match="no path of this machine"):
        world.projects.allow_local("shop", "https://forge.test/shop.git")


@pytest.mark.parametrize(
    ("repository", "api_url", "told"),
    [
        ("https://github.com/acme/shop.git", "", True),
        ("https://gitlab.com/acme/shop.git", "", False),
        ("https://git.acme.test/shop.git", "https://git.acme.test/api", True),
        ("https://git.acme.test/shop.git", "", False),
    ],
)
def test_the_token_goes_to_the_api_of_the_repositorys_own_forge(
    world: World, repository: str, api_url: str, told: bool
) -> None:
    world.projects.add("shop", forge_token=Secret("forge-token"), repository=repository, api_url=api_url)
    sha = world.repositories.commit(repository, "main", {"greenroom.yml": BLUEPRINT})
    world.trigger("shop", Trigger(TriggerKind.PUSH, "github", repository, sha, slug="acme/shop", branch="main"))
    world.settle()
    assert world.all_runs()[-1].verdict is Verdict.PASSED
    assert bool(world.forge.reported) is told


ME = Asking("me", "not needed any more")
#: A run whose nodes stay after it failed.
HELD = {**USUAL, "destroy": {"on_failure": {"hold": "30m"}}}


def _hold_nodes(world: World) -> None:
    world.project("shop")
    world.program("./migrate", lambda _: 0)
    world.program("./check", lambda _: 1)
    world.push("shop", HELD)
    world.settle()


def test_an_overview_says_what_is_in_use(world: World) -> None:
    world.project("blog")
    _hold_nodes(world)
    found = {one.project.name: (one.use, one.active_runs) for one in world.projects.overviews()}
    assert found == {"shop": (Use(1, 1.0, 512.0, 5.0, 1), 0), "blog": (Use(), 0)}
    assert world.projects.overview("shop").use.nodes == 1


def test_a_quota_that_is_raised_lets_what_waits_in(world: World) -> None:
    world.project("shop")
    world.projects.change("shop", ProjectChange({"environments": 1}))
    world.program("./migrate", lambda _: 0)
    world.program("./check", lambda _: 1)
    for branch in ("main", "other"):
        world.push("shop", HELD, branch=branch)
    world.settle()
    assert sorted(one.state for one in world.all_environments()) == ["held", "requested"]
    (waits,) = [one for one in world.all_environments() if one.state is EnvironmentState.REQUESTED]
    assert "over the project's own quota of environments: 1 are wanted, 1 of 1 are in use" in waits.reason
    world.projects.change("shop", ProjectChange({"environments": "none"}))
    world.settle()
    assert [one.state for one in world.all_environments()] == [EnvironmentState.HELD] * 2


def test_a_project_with_standing_nodes_is_not_removed(world: World) -> None:
    _hold_nodes(world)
    (environment,) = world.all_environments()
    with pytest.raises(InvalidTransition) as refused:
        world.projects.remove("shop", ME)
    assert f"project shop cannot be removed: it has environment {environment.id} (held)" in str(refused.value)
    world.control.release(world.all_runs()[0].id)
    world.settle()
    world.projects.remove("shop", ME)
    assert world.projects.all() == []


def test_runs_that_are_not_over_keep_their_project(world: World) -> None:
    world.project("shop")
    world.projects.change("shop", ProjectChange(max_runs=1))
    for branch in ("main", "other"):
        world.push("shop", USUAL, branch=branch)
    with pytest.raises(InvalidTransition, match=r"it has trigger trg-\d+, trigger"):
        world.projects.remove("shop", ME)
    world.program("./migrate", lambda _: (_ for _ in ()).throw(WorkerKilled()))
    world.settle()
    assert sorted(run.state for run in world.all_runs()) == [RunState.PENDING, RunState.RUNNING]
    with pytest.raises(InvalidTransition, match=r"run run-\d+ \(pending\), run run-\d+ \(running\), environment"):
        world.projects.remove("shop", ME)


def test_a_dry_run_removes_nothing_and_both_are_told(world: World) -> None:
    world.project("shop")
    world.projects.remove("shop", Asking("me", "to see", dry_run=True))
    assert [one.name for one in world.projects.all()] == ["shop"]
    world.projects.remove("shop", ME)
    with pytest.raises(NotFound):
        world.projects.remove("shop", ME)
    told = [(one.data["target"], one.data["dry_run"]) for one in world.store.events(AUDIT)]
    assert told == [("project shop", True), ("project shop", False)]


def test_what_a_removed_project_left_is_not_done_again(world: World) -> None:
    world.project("shop")
    world.program("./migrate", lambda _: 0)
    world.program("./check", lambda _: 0)
    world.push("shop", USUAL)
    world.settle()
    world.projects.remove("shop", ME)
    trigger = world.push("shop", USUAL)
    world.settle()
    ignored = world.books.triggers.get(trigger).value
    assert (ignored.state, ignored.reason) == (TriggerState.IGNORED, "project shop was removed")
    with pytest.raises(NotFound, match="there is no project shop"):
        world.control.rerun(world.all_runs()[0].id, None)


RACKS = Inventory((Machine("a", "rack-a", {}), Machine("b", "rack-b", {})), (Zone("rack-a"), Zone("rack-b")))


def _keep_to(world: World, zone: str) -> None:
    rule = Affinity(Stance.REQUIRE, Attribute.ZONE, (zone,), "project shop rule racks")
    world.projects.change("shop", ProjectChange(rules=(OperatorRule("racks", {"role": ("web",)}, (rule,)),)))


@pytest.mark.parametrize("zone", ["rack-a", "rack-b"])
def test_the_scheduler_and_the_dry_run_keep_a_projects_rules(world: World, zone: str) -> None:
    world.inventories.sync("cloud", RACKS)
    world.project("shop")
    _keep_to(world, zone)
    blueprint = YamlBlueprintReader().read("greenroom.yml", BLUEPRINT)
    trial = _placements(world).try_out(blueprint, project="shop")
    assert trial.decision == Placed({"web": (zone[-1],)})
    _push_from(world, "https://forge.test/shop.git")
    assert [node.zone for one in world.all_environments() for node in one.nodes] == [zone]


def test_a_rule_that_names_nothing_is_told_with_its_source(world: World) -> None:
    world.inventories.sync("cloud", RACKS)
    world.project("shop")
    _keep_to(world, "rack-z")
    _push_from(world, "https://forge.test/shop.git")
    (run,) = world.all_runs()
    assert "require zone rack-z (project shop rule racks), but there is no zone rack-z" in run.reason


def test_what_waits_is_looked_at_again_when_its_projects_rules_change(world: World) -> None:
    machines = (Machine("a", "rack-a", {"vcpu": 1.0}), Machine("b", "rack-b", {"vcpu": 1.0}))
    world.inventories.sync("cloud", replace(RACKS, machines=machines))
    world.project("shop")
    _keep_to(world, "rack-a")
    world.program("./check", lambda _: 1)
    for branch in ("main", "other"):
        world.push("shop", {**HELD, "deploy": []}, branch=branch)
    world.settle()
    assert sorted(one.state for one in world.all_environments()) == ["held", "requested"]
    world.projects.change("shop", ProjectChange(rules=()))
    world.settle()
    assert sorted(node.zone for one in world.all_environments() for node in one.nodes) == ["rack-a", "rack-b"]


def _placements(world: World) -> Placements:
    return Placements(world.books, lambda _: world.provider, world.inventories, world.clock, "cloud", ("cloud",))


def _asked(
    name: str, service: str, provider: str = "cloud", state: EnvironmentState = EnvironmentState.REQUESTED
) -> Environment:
    nodes = planned_nodes(EnvironmentSpec("debian-12", (RoleSpec("web"),)))
    return Environment(name, "shop", service, "", provider, state, nodes, Priority.PUSH, 1.7e9, 1.7e9, 9e9)


def _ask(world: World, *wanted: Environment) -> None:
    world.books.commit(*(world.books.environments.kind.put(one.id, one, 0) for one in wanted))


def _scheduler(world: World, names: Sequence[str] = ()) -> Scheduler:
    preemptions = Preemptions(world.books, world.gate)
    return Scheduler(world.books, lambda _: world.provider, world.inventories, preemptions, world.clock, names)


def test_who_comes_later_keeps_the_distance_that_a_projects_rule_wants(world: World) -> None:
    world.inventories.sync("cloud", replace(RACKS, machines=RACKS.machines[:1]))
    world.project("shop")
    alone = OperatorRule("alone", {"service": ("payroll",)}, apart_from=("blog",))
    world.projects.change("shop", ProjectChange(rules=(alone,)))
    _ask(world, _asked("env-1", "payroll"))
    world.tick.scheduler.reserve(None)
    _ask(world, _asked("env-2", "blog"), _asked("env-3", "other"))
    for scheduler in (
        world.tick.scheduler,
        _scheduler(world),
    ):
        scheduler.reserve(None)
        states = {one.id: one.state.value for one in world.all_environments()}
        assert states == {"env-1": "reserved", "env-2": "requested", "env-3": "reserved"}
    reason = world.books.environments.get("env-2").value.reason
    assert "service blog shares no machine with payroll" in reason


def test_what_stands_at_another_provider_counts_against_the_quota(world: World) -> None:
    world.project("shop")
    world.projects.change("shop", ProjectChange({"environments": 1}))
    _ask(world, _asked("env-1", "s", "lab", EnvironmentState.LEASED), _asked("env-2", "s"))
    names = ("cloud", "lab")
    _scheduler(world, names).reserve(None)
    waits = world.books.environments.get("env-2").value
    assert waits.state is EnvironmentState.REQUESTED
    assert "quota of environments: 1 are wanted, 1 of 1 are in use" in waits.reason
    tried = Placements(world.books, lambda _: world.provider, world.inventories, world.clock, "cloud", names)
    blueprint = YamlBlueprintReader().read("greenroom.yml", BLUEPRINT)
    decision = tried.try_out(blueprint, project="shop").decision
    assert isinstance(decision, Unschedulable)
    assert "quota of environments" in str(decision.explanation)
