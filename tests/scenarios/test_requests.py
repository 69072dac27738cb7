"""Environments on request, from the wish to the end, and with somebody's death at every place in between."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.adapters.keys import SshKeys
from pipeline.adapters.transports.memory import Call
from pipeline.api.views import EnvironmentView
from pipeline.domain.contracts import Contract
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import (
    AlreadyExists,
    GreenroomError,
    GuardRefused,
    InvalidBlueprint,
    InvalidTransition,
    KeyReused,
    NotFound,
    OverQuota,
    TransientError,
    UserError,
)
from pipeline.domain.projects import ProjectChange
from pipeline.domain.runs import RunState, StageName, Verdict
from pipeline.domain.user_keys import fingerprint
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND
from pipeline.stages.requests import Request
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.test_kills_in_scenarios import EMPTY
from tests.scenarios.world import World, repository_of

E = EnvironmentState
PLAIN: Mapping[str, Any] = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"web": {"count": 2}, "db": {}}},
    "test": [],
}
KEY = SshKeys().ed25519("ada@laptop")[1]
GIVE_BACK = Asking(BY_HAND, "done")
INLINE = Request("shop", "ada", "to look at a bug", blueprint=json.dumps(PLAIN), keys=(KEY,))
PREPARED = Request("shop", "ada", "to look at a bug", ref="main", keys=(KEY,))
HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return filled(tmp_path)


def filled(scratch: Path, **settings: int) -> World:
    world = usual_world(scratch, **settings)
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    return world


def made(world: World, request: Request = INLINE) -> Environment:
    environment = world.requests.make(request).environment
    world.settle()
    return now(world, environment)


def now(world: World, environment: Environment) -> Environment:
    return world.books.environments.get(environment.id).value


def contract(world: World, environment: Environment) -> Contract:
    found = now(world, environment).contract
    assert found is not None
    return found


def told(world: World, environment: Environment) -> list[str]:
    return [event.type for event in world.store.events(environment.id)]


def test_a_blueprint_without_work_is_leased_without_a_run(world: World) -> None:
    asked = world.requests.make(INLINE).environment
    assert (asked.state, asked.owner, asked.priority) == (E.REQUESTED, "", "interactive")
    world.settle()
    leased = now(world, asked)
    assert leased.state is E.LEASED
    assert contract(world, asked).ready_at == world.clock.now()
    assert leased.ends_at == world.clock.now() + 2 * HOUR
    assert not world.all_runs()
    gone = world.requests.release(asked.id, GIVE_BACK)
    assert gone.state is E.DESTROYING
    world.settle()
    assert now(world, asked).state is E.DESTROYED
    assert not world.cloud.marks


def test_a_commit_is_configured_and_deployed_and_handed_over(world: World) -> None:
    environment = made(world, PREPARED)
    (run,) = world.all_runs()
    assert (run.id, run.verdict, run.environment_id) == (environment.owner, Verdict.PASSED, environment.id)
    states = {stage.name: str(stage.state) for stage in run.stages}
    assert states == {
        "deliver": "passed", "configure": "passed", "deploy": "passed", "test": "skipped", "destroy": "skipped",
    }  # fmt: skip
    assert environment.state is E.LEASED
    assert contract(world, environment).ready_at
    assert "environment.prepared" in told(world, environment)
    world.advance(60)
    assert now(world, environment).state is E.LEASED  # that its run is over ends nothing
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    assert now(world, environment).state is E.DESTROYED


def test_what_cannot_be_prepared_goes_and_says_why(tmp_path: Path) -> None:
    world = usual_world(tmp_path, status=3)
    world.repositories.commit(repository_of("shop"), "main", {"greenroom.yml": json.dumps(USUAL).encode()})
    environment = made(world, PREPARED)
    assert environment.state is E.DESTROYED
    assert "`./migrate` failed with exit status 3" in environment.reason


def test_files_for_an_inline_blueprint_come_from_the_ref(world: World) -> None:
    environment = made(world, replace(PREPARED, blueprint=json.dumps({**USUAL, "service": "mine"})))
    assert (environment.service, environment.state) == ("mine", E.LEASED)


def test_a_template_is_a_blueprint_under_a_name(world: World) -> None:
    world.templates.keep("three", json.dumps(PLAIN))
    assert len(made(world, replace(INLINE, blueprint="", template="three")).nodes) == 3
    world.templates.forget("three", GIVE_BACK)
    with pytest.raises(NotFound, match="there is no template 'three'; there are: none yet"):
        world.requests.make(replace(INLINE, blueprint="", template="three"))


def test_a_dry_run_forgets_no_template(world: World) -> None:
    world.templates.keep("three", json.dumps(PLAIN))
    world.templates.forget("three", replace(GIVE_BACK, dry_run=True))
    assert [one.name for one in world.templates.all()] == ["three"]


def test_a_template_with_mistakes_is_not_kept(world: World) -> None:
    with pytest.raises(InvalidBlueprint, match="template three: line 1"):
        world.templates.keep("three", "version: 1\n")
    assert not world.templates.all()


def test_a_key_is_made_once_and_not_kept(world: World) -> None:
    answer = world.requests.make(replace(INLINE, keys=(), repeat="k", body="b"))
    assert answer.private_key is not None
    document = world.store.get("environment", answer.environment.id)
    assert document is not None
    assert answer.private_key.reveal() not in json.dumps(document.body)
    assert "PRIVATE" not in json.dumps(document.body)
    again = world.requests.make(replace(INLINE, keys=(), repeat="k", body="b"))
    assert (again.private_key, again.repeated) == (None, True)
    assert again.environment.id == answer.environment.id


def test_the_given_keys_reach_the_driver(world: World) -> None:
    environment = made(world)
    assert contract(world, environment).keys == (KEY,)
    assert world.cloud.login_keys[environment.id] == (KEY,)


def test_keys_of_a_forge_s_user_are_installed_where_the_project_lets_that(world: World) -> None:
    world.people.keys["https://github.com/ada"] = f"{KEY}\nssh-dss AAAAB3NzaC1kc3M=\n"
    asked = replace(INLINE, keys=(), keys_of="ada")
    with pytest.raises(UserError, match="takes keys from no forge"):
        world.requests.make(asked)
    world.projects.change("shop", ProjectChange(key_forges=("https://github.com",)))
    answer = world.requests.make(asked)
    assert answer.private_key is None
    (key,) = contract(world, answer.environment).keys
    assert key == f"{' '.join(KEY.split()[:2])} ada@github.com"
    (told,) = [event.data for event in world.store.events("audit") if event.type == "audit.install-keys"]
    assert (told["target"], told["who"], told["why"]) == (answer.environment.id, "ada", "of ada")
    assert told["keys"] == [f"{fingerprint(KEY)} ada@github.com"]
    with pytest.raises(NotFound, match="there is no such user"):
        world.requests.make(replace(asked, keys_of="eve"))


def test_the_same_request_makes_one_environment_and_another_body_is_refused(world: World) -> None:
    first = made(world, replace(INLINE, repeat="key", body="one"))
    assert made(world, replace(INLINE, repeat="key", body="one")).id == first.id
    with pytest.raises(KeyReused, match=f"'key' was used for another request, which made {first.id}"):
        world.requests.make(replace(INLINE, repeat="key", body="two"))
    assert len(world.all_environments()) == 1


def test_a_name_is_taken_until_its_environment_is_gone(world: World) -> None:
    first = made(world, replace(INLINE, name="demo"))
    with pytest.raises(AlreadyExists, match=f"an environment 'demo' already: {first.id}, leased"):
        world.requests.make(replace(INLINE, name="demo"))
    assert world.requests.find("demo", "shop").id == first.id
    world.requests.release(first.id, GIVE_BACK)
    world.settle()
    assert made(world, replace(INLINE, name="demo")).state is E.LEASED


BAD: Mapping[str, tuple[Request, type[GreenroomError], str]] = {
    "project": (replace(INLINE, project="nope"), NotFound, "there is no project nope"),
    "template": (replace(INLINE, blueprint="", template="nope"), NotFound, "no template 'nope'; there are: none yet"),
    "both": (replace(INLINE, template="nope"), UserError, "a blueprint and a template are given"),
    "ref": (replace(PREPARED, ref="nope"), NotFound, "nope"),
    "ref like an option": (replace(PREPARED, ref="--upload-pack=x"), UserError, "reads like an option"),
    "repository": (replace(PREPARED, repository="ext::sh"), UserError, "is no repository URL"),
    "time": (replace(INLINE, ttl_s=25 * HOUR), UserError, "of 1d1h is wanted; project shop allows 1d"),
    "key": (replace(INLINE, keys=("ssh-ed25519 AAAA",)), UserError, "public key 1 is damaged"),
    "private key": (replace(INLINE, keys=("-----BEGIN OPENSSH PRIVATE KEY-----",)), UserError, "is a private key"),
    "name": (replace(INLINE, name="No"), UserError, "use 1 to 40 of a-z"),
    "blueprint": (replace(INLINE, blueprint="{}"), InvalidBlueprint, "blueprint: line 1"),
    "no files": (replace(INLINE, blueprint=json.dumps(USUAL)), UserError, "comes from a repository, and none is named"),
    "provider": (
        replace(INLINE, blueprint=json.dumps({**PLAIN, "environment": {**PLAIN["environment"], "provider": "x"}})),
        UserError,
        "there is no provider 'x'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_and_nothing_is_stored(world: World, case: str) -> None:
    request, error, text = BAD[case]
    with pytest.raises(error) as refused:
        world.requests.make(request)
    assert text in str(refused.value)
    assert not world.all_environments()


def test_a_repository_that_does_not_answer_is_told_at_once(world: World) -> None:
    world.repositories.fail_next(TransientError("forge.test does not answer; try again"))
    with pytest.raises(TransientError, match=r"forge\.test"):
        world.requests.make(PREPARED)


def test_over_quota_is_a_clear_answer_at_once(world: World) -> None:
    world.projects.change("shop", ProjectChange({"nodes": 4}))
    made(world)
    with pytest.raises(OverQuota, match="quota of nodes: 3 are wanted, 3 of 4 are in use"):
        world.requests.make(INLINE)


def test_it_is_shown_how_nodes_are_connected(world: World) -> None:
    networks = {"backend": {"cidr": "10.40.0.0/24"}, "office": {"shared": "office-net"}}
    web = {"open": ["443/tcp"], "networks": {"backend": "10.40.0.11"}, "virtual_address": "10.20.0.9"}
    roles = {"web": web, "db": {"networks": ["office"], "floating": True}}
    wired = {**PLAIN, "environment": {"image": "debian-12", "networks": networks, "roles": roles}}
    shown = EnvironmentView.of(made(world, replace(INLINE, blueprint=json.dumps(wired))))
    assert [one.model_dump() for one in shown.networks] == [
        {"name": "backend", "cidr": "10.40.0.0/24", "shared": ""},
        {"name": "office", "cidr": "", "shared": "office-net"},
    ]
    first, second = shown.nodes
    assert (first.networks, first.open, first.virtual_address) == ({"backend": "10.40.0.11"}, ["443/tcp"], "10.20.0.9")
    assert second.networks["office"].startswith("198.51.100.")
    assert (first.floating, second.floating) == (False, True)
    assert shown.contract is not None
    assert shown.contract.costs.floating_addresses == 1


def test_a_full_cloud_lets_it_wait_with_its_place_in_the_line(tmp_path: Path) -> None:
    world = World(str(tmp_path), max_nodes=3)
    world.project("shop")
    first, second = made(world), made(world)
    assert (first.state, second.state) == (E.LEASED, E.REQUESTED)
    assert EnvironmentView.of(second).position == 1
    world.requests.release(first.id, GIVE_BACK)
    world.advance(5)
    assert now(world, second).state is E.LEASED


def test_one_that_waits_is_withdrawn(tmp_path: Path) -> None:
    world = World(str(tmp_path), max_nodes=3)
    world.project("shop")
    made(world)
    second = made(world)
    assert world.requests.release(second.id, GIVE_BACK).state is E.WITHDRAWN


# Its time


def test_its_time_begins_when_its_nodes_are_in_service_and_ends_it(world: World) -> None:
    environment = made(world, replace(INLINE, ttl_s=600))
    assert environment.ends_at == world.clock.now() + 600
    world.advance(599)
    assert now(world, environment).state is E.LEASED
    world.advance(3)
    assert now(world, environment).state is E.DESTROYED
    assert now(world, environment).reason == "its leased time ended"


def test_its_end_is_warned_of_once_and_again_after_an_extension(world: World) -> None:
    environment = made(world, replace(INLINE, ttl_s=600))
    world.advance(538)
    assert "environment.ending" not in told(world, environment)
    world.advance(4)
    assert told(world, environment).count("environment.ending") == 1
    world.leases.extend(environment.id, 600)
    world.advance(542)
    assert told(world, environment).count("environment.ending") == 1
    world.advance(62)
    assert told(world, environment).count("environment.ending") == 2


def test_it_is_extended_up_to_the_maximum(world: World) -> None:
    environment = made(world)
    assert world.leases.extend(environment.id, 22 * HOUR).ends_at == environment.ends_at + 22 * HOUR
    with pytest.raises(UserError, match=r"its project lets it live for 1d, until .* ask for at most 0s more"):
        world.leases.extend(environment.id, 60)


def test_a_hold_never_shortens_and_keeps_the_maximum(world: World) -> None:
    environment = made(world)
    held = world.leases.hold(environment.id, 60, "to debug")
    assert (held.state, held.ends_at, held.reason) == (E.HELD, environment.ends_at, "to debug")
    assert world.leases.hold(environment.id, 3 * HOUR, "more").ends_at == world.clock.now() + 3 * HOUR
    assert world.leases.extend(environment.id, HOUR).state is E.HELD
    with pytest.raises(UserError, match="held for 1d1h would end at"):
        world.leases.hold(environment.id, 25 * HOUR, "too long")
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    assert now(world, environment).state is E.DESTROYED


def test_what_is_protected_outlives_its_time_and_is_not_given_back(world: World) -> None:
    environment = made(world, replace(INLINE, ttl_s=60))
    world.leases.protect(environment.id, "a demo")
    world.advance(120)
    assert now(world, environment).state is E.LEASED
    with pytest.raises(GuardRefused, match="it is protected: a demo"):
        world.requests.release(environment.id, GIVE_BACK)
    world.leases.protect(environment.id, "")
    world.advance(2)
    assert now(world, environment).state is E.DESTROYED


def test_only_an_environment_on_request_has_a_time_to_change(world: World) -> None:
    world.push("shop", USUAL)
    world.settle()
    (environment,) = world.all_environments()
    with pytest.raises(InvalidTransition, match=f"was asked for by run {environment.owner}"):
        world.leases.extend(environment.id, 60)


def test_what_is_gone_is_not_extended(world: World) -> None:
    environment = made(world)
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    with pytest.raises(InvalidTransition, match="is destroyed: its time can be changed while it is leased or held"):
        world.leases.extend(environment.id, 60)


def test_a_release_ends_the_run_that_prepares_it(world: World) -> None:
    asked = world.requests.make(PREPARED).environment
    world.requests.release(asked.id, GIVE_BACK)
    world.settle()
    (run,) = world.all_runs()
    assert (run.verdict, now(world, asked).final) == (Verdict.CANCELLED, True)


def test_the_run_that_prepared_it_is_not_run_again(world: World) -> None:
    environment = made(world, PREPARED)
    with pytest.raises(InvalidTransition, match="ask for a new environment"):
        world.control.rerun(environment.owner, StageName.DEPLOY)


def test_its_contract_is_shown(world: World) -> None:
    shown = EnvironmentView.of(made(world, PREPARED)).contract
    assert shown is not None
    assert (shown.owner, shown.why, shown.costs.nodes) == ("ada", "to look at a bug", 1)
    assert shown.dies_at == world.clock.now() + 2 * HOUR
    assert shown.last_end == world.clock.now() + 24 * HOUR


# Its room is wanted


@pytest.mark.parametrize("request_", [INLINE, PREPARED], ids=["inline", "prepared"])
def test_a_preempted_one_is_gone_and_nobody_asks_for_another_in_its_place(tmp_path: Path, request_: Request) -> None:
    world = usual_world(tmp_path, max_nodes=1)
    modest = {"image": "debian-12", "roles": {"web": {"script": "setup.sh", "qos": {"class": "best-effort"}}}}
    plain = {**modest, "roles": {"web": {"qos": {"class": "best-effort"}}}}
    files = {"greenroom.yml": json.dumps({**USUAL, "environment": modest}).encode()}
    world.repositories.commit(repository_of("shop"), "main", files)
    inline = json.dumps({**PLAIN, "environment": plain}) if request_.blueprint else ""
    world.cloud.slow = True
    asked = made(world, replace(request_, blueprint=inline))
    firm = {"image": "debian-12", "roles": {"web": {"script": "setup.sh", "qos": {"class": "guaranteed"}}}}
    world.push("shop", {**USUAL, "environment": firm}, branch="firm")
    world.advance(5)
    assert now(world, asked).notice is not None
    world.cloud.slow = False
    world.advance(40)
    world.cloud.finish()
    world.advance(30)
    assert now(world, asked).state is E.DESTROYED
    assert now(world, asked).reason.startswith("preempted: ")
    assert len(world.all_environments()) == 2
    assert [run.verdict for run in world.all_runs()][-1] is Verdict.PASSED


# Commands


def test_a_command_is_run_on_each_node_of_a_role_and_its_output_kept(world: World) -> None:
    environment = made(world)

    def uptime(call: Call) -> int:
        call.output(b"up\n")
        return 3 if call.node == "web-1" else 0

    world.program("uptime", uptime)
    asked = world.work.commands.ask(environment.id, "web", "uptime", 60)
    assert asked.exit_status is None
    world.settle()
    done = world.work.commands.get(asked.id)
    assert (dict(done.statuses), done.exit_status, done.fault) == ({"web-0": 0, "web-1": 3}, 3, "")
    said = world.logs.read(environment.id, asked.id, 0, 1000).decode()
    assert said == "greenroom: on web-0\nup\ngreenroom: on web-1\nup\n"
    assert told(world, environment)[-2:] == ["command.asked", "command.finished"]


def test_a_command_is_begun_once_and_a_lost_worker_is_told(world: World) -> None:
    environment = made(world)
    asked = world.work.commands.ask(environment.id, "db", "charge", 60)
    world.grave.dig("worker after write")
    world.settle()
    world.work.run_command(asked.id)
    assert not [call for call in world.transport.calls if "charge" in call.command]
    world.advance(361)
    assert "its worker was lost" in world.work.commands.get(asked.id).fault


def test_a_command_that_cannot_be_run_says_why(world: World) -> None:
    environment = made(world)
    with pytest.raises(UserError, match="on: 'cache' names no node; there are web-0, web-1, db-0"):
        world.work.commands.ask(environment.id, "cache", "true", 60)
    with pytest.raises(UserError, match="a command may take 3600 s on a node at most"):
        world.work.commands.ask(environment.id, "web", "true", 3601)
    asked = world.work.commands.ask(environment.id, "web", "true", 60)
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    assert world.work.commands.get(asked.id).fault
    with pytest.raises(InvalidTransition, match="nothing can be run on it"):
        world.work.commands.ask(environment.id, "web", "true", 60)


# Somebody dies at every place


def play(world: World, request: Request) -> None:
    """Ask twice, as who got no answer does; let it be made, be extended, be given back."""
    asked = repeated(lambda: world.requests.make(replace(request, repeat="key", body="b")).environment)
    for _ in range(200):
        if contract(world, asked).ready_at:
            break
        world.advance(5)
    repeated(lambda: world.leases.hold(asked.id, 60, "to debug"))
    world.advance(30)
    assert now(world, asked).state is E.HELD
    repeated(lambda: world.requests.release(asked.id, GIVE_BACK))
    for _ in range(200):
        if now(world, asked).final and all(run.state is RunState.FINISHED for run in world.all_runs()):
            break
        world.advance(5)


def repeated(act: Callable[[], Environment]) -> Environment:
    act()
    return act()


@cache
def places(request: Request) -> tuple[tuple[str, int], ...]:
    """What a play without a death passes, in order."""
    with TemporaryDirectory() as scratch:
        world = filled(Path(scratch))
        play(world, request)
    return tuple(world.grave.counted())


@pytest.mark.parametrize("request_", [INLINE, PREPARED], ids=["inline", "prepared"])
def test_a_death_anywhere_loses_nothing(tmp_path: Path, request_: Request) -> None:
    for number, (place, countdown) in enumerate(places(request_)):
        world = filled(tmp_path / str(number))
        world.grave.dig(place, countdown)
        play(world, request_)
        (environment,) = world.all_environments()
        assert environment.state is E.DESTROYED, place
        assert all(run.verdict is Verdict.PASSED for run in world.all_runs()), place
        assert not world.cloud.marks, place
        assert not [name for name in EMPTY if world.store.count(name)], place
