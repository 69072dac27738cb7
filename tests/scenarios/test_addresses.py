"""Where environments are reached through the router, and what is said of those that are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.adapters.routers.memory import MemoryRouter
from pipeline.domain.environments import Environment
from pipeline.domain.errors import CapacityError, InvalidTransition, NotFound
from pipeline.envs.addresses import Address, Addresses
from pipeline.settings import RouterSettings
from pipeline.stages.requests import Request
from tests.scenarios.player import usual_world
from tests.scenarios.test_requests import GIVE_BACK, PLAIN
from tests.scenarios.test_stagings import HOST, SPEC, commit, live
from tests.scenarios.world import World

DOMAIN, BIND = "test.example", "127.0.0.1:8680"


def asked(world: World, role: dict[str, Any]) -> Environment:
    blueprint = {**PLAIN, "environment": {"image": "debian-12", "roles": {"web": {"count": 2, **role}}}}
    made = world.requests.make(Request("shop", "ada", blueprint=json.dumps(blueprint))).environment
    world.advance(5)
    return made


def addresses(world: World, router: MemoryRouter | None) -> Addresses:
    return Addresses(world.books, router, DOMAIN, RouterSettings(bind=BIND).url_of)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return usual_world(tmp_path)


def test_it_is_told_with_how_many_nodes_answer(world: World) -> None:
    made = asked(world, {"open": ["8080/tcp"]})
    host = f"{made.id}.{DOMAIN}"
    world.router.addresses[host] = "203.0.113.7"
    assert addresses(world, world.router).of(made.id) == Address(host, f"http://{host}:8680/", "203.0.113.7", 2, 2)


def test_whose_nodes_answer_for_others_is_said_to_lead_nowhere(world: World) -> None:
    made = asked(world, {"open": ["8080/tcp"]})
    world.router.nowhere.add(f"{made.id}.{DOMAIN}")
    found = addresses(world, world.router).of(made.id)
    assert (found.up, found.targets) == (0, 0)


def test_a_staging_has_an_address_whatever_is_live(world: World) -> None:
    commit(world, "v1")
    world.stagings.put("front", SPEC)
    assert addresses(world, world.router).of_staging("front") == Address(HOST, f"http://{HOST}:8680/", "", 0, 0)
    world.router.addresses[HOST] = "203.0.113.7"
    live(world, "v1")
    assert addresses(world, world.router).of_staging("front") == Address(
        HOST, f"http://{HOST}:8680/", "203.0.113.7", 1, 1
    )
    with pytest.raises(NotFound, match="staging front has no address"):
        addresses(world, None).of_staging("front")


def test_without_a_router_it_says_so(world: World) -> None:
    made = asked(world, {"open": ["8080/tcp"]})
    with pytest.raises(NotFound, match=f"environment {made.id} has no address: this deployment has no router; set"):
        addresses(world, None).of(made.id)


def test_without_a_role_that_answers_it_says_what_the_blueprint_lacks(world: World) -> None:
    made = asked(world, {})
    with pytest.raises(NotFound, match="its blueprint does not say where it answers requests; give its first deploy"):
        addresses(world, world.router).of(made.id)


def test_what_is_not_in_use_has_none(world: World) -> None:
    made = asked(world, {"open": ["8080/tcp"]})
    world.requests.release(made.id, GIVE_BACK)
    world.settle()
    with pytest.raises(InvalidTransition, match="is destroyed: it has an address while it is leased or held"):
        addresses(world, world.router).of(made.id)


def test_a_router_that_does_not_have_it_is_named(world: World) -> None:
    made = asked(world, {"open": ["8080/tcp"]})
    with pytest.raises(CapacityError, match="has no address yet: other does not know it; try again in some seconds"):
        addresses(world, MemoryRouter("other")).of(made.id)
