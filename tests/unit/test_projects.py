"""Projects: names, tokens and which repositories of this machine their deliveries may name."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.domain.errors import AlreadyExists, UserError
from pipeline.domain.projects import check_name, local_path
from pipeline.domain.runs import Verdict
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.ports.common import Secret
from pipeline.stages.context import host_of, project_token
from tests.scenarios.world import World

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
    with pytest.raises(AlreadyExists, match="shop"):
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
