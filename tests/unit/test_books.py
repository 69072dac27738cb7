"""Aggregates as documents: what was written is read as it was, also by another version."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.domain.errors import NotFound, PermanentError, VersionConflict
from pipeline.envs.books import SCHEMA, TRIES, Books
from pipeline.ports.stores import Document, Put
from tests.scenarios.player import USUAL, usual_world
from tests.scenarios.world import World

RICH = {
    **USUAL,
    "on": {"push": {"branches": ["main"]}, "schedule": [{"cron": "0 2 * * *", "branch": "main"}]},
    "environment": {
        "image": "debian-12",
        "roles": {
            "web": {"count": 2, "run_list": ["recipe[shop]"], "script": "setup.sh", "attributes": {"a": {"b": [1, 2]}}},
            "db": {"qos": {"class": "guaranteed", "disk_write_iops": 500, "network_in": "100Mbit/s"}},
        },
    },
    "test": [{"testinfra": "tests/infra", "roles": ["web"]}, {"run": "./check", "on": "web[0]"}],
    "artifacts": [{"path": "/var/log/shop", "on": "db"}],
    "destroy": {"on_failure": {"hold": "30m"}},
}


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = usual_world(tmp_path, status=1)
    world.push("shop", RICH)
    world.settle()
    return world


def test_every_aggregate_is_read_as_it_was_written(world: World) -> None:
    books = world.books
    (run,), (environment,) = world.all_runs(), world.all_environments()
    assert run.plan.environment.role("web").attributes == {"a": {"b": [1, 2]}}
    for kind, value in (
        (books.runs.kind, run),
        (books.environments.kind, environment),
        (books.projects.kind, books.projects.get("shop").value),
        (books.triggers.kind, books.triggers.get(run.trigger_id).value),
    ):
        assert kind.value(Document(kind.name, "x", 1, json.dumps(kind.body(value)))) == value  # type: ignore[arg-type]  # each kind with its own


def test_no_document_holds_a_key_in_clear(world: World) -> None:
    (environment,) = world.all_environments()
    assert environment.sealed_key.startswith("sealed:")
    assert all(node.sealed_host_key.startswith("sealed:") for node in environment.nodes)


def test_a_document_of_an_older_version_is_read(world: World) -> None:
    (environment,) = world.all_environments()
    body = dict(world.books.environments.kind.body(environment))
    del body["waits"]
    assert world.books.environments.kind.value(Document("environment", "x", 1, json.dumps(body))) == environment


def test_a_document_of_a_newer_version_is_refused(world: World) -> None:
    document = world.store.get("project", "shop")
    assert document is not None
    newer = replace(document, text=json.dumps({**document.body, "schema": SCHEMA + 1}))
    with pytest.raises(PermanentError, match="newer Greenroom; upgrade"):
        world.books.projects.kind.value(newer)


def test_a_document_that_cannot_be_read_does_not_hide_the_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.project("blog")
    document = world.store.get("project", "shop")
    assert document is not None
    broken = {**document.body, "max_runs": "many"}
    world.books.commit(Put("project", "shop", document.version, broken, {"projects": 1.0}))
    for _ in range(2):
        assert [loaded.value.name for loaded in world.books.projects.in_index("projects")] == ["blog"]
    assert caplog.text.count("project shop in the store cannot be read: max_runs") == 1
    with pytest.raises(PermanentError, match="max_runs"):
        world.books.projects.get("shop")


def test_what_is_not_there_is_named(world: World) -> None:
    with pytest.raises(NotFound, match="there is no run run-none; `greenroom runs` lists them"):
        world.books.runs.get("run-none")


def test_a_use_case_is_decided_again_when_somebody_wrote_first(world: World) -> None:
    left = [TRIES - 1]

    def decide() -> str:
        if left[0]:
            left[0] -= 1
            raise VersionConflict("somebody was first")
        return "done"

    assert Books(world.store).again(decide) == "done"


def test_a_use_case_that_never_wins_says_so(world: World) -> None:
    tries = []

    def decide() -> str:
        tries.append(1)
        raise VersionConflict("somebody was first")

    with pytest.raises(VersionConflict):
        world.books.again(decide)
    assert len(tries) == TRIES
