"""What a request that waits is told: its position, about how long, what for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.projects import ProjectChange
from pipeline.domain.rules import EnvironmentRules, PlacementRules
from pipeline.domain.texts import brief, cut
from pipeline.domain.waits import (
    NEAR,
    REMEMBERED,
    RETELL_S,
    Hindrance,
    Pace,
    Wait,
    about,
    estimate,
    paced,
    tell_again_s,
    told,
)
from tests.scenarios.world import World

E = EnvironmentState


def pace_of(*places: tuple[float, float]) -> Pace:
    """The pace after places: when each one began to wait, and when it was placed."""
    pace: Pace | None = None
    for since, now in places:
        pace = paced(pace, since, now)
    assert pace is not None
    return pace


def test_without_data_there_is_no_estimate() -> None:
    assert estimate(None, 1, 0.0, 100.0) is None


def test_a_steady_line_moves_on_as_it_did() -> None:
    pace = pace_of((0, 60), (0, 120), (0, 180))
    assert estimate(pace, 1, 0.0, 190.0) == 60
    assert estimate(pace, 4, 0.0, 190.0) == 240


def test_time_in_which_nobody_waited_teaches_nothing() -> None:
    assert pace_of((0, 60), (10_000, 10_060)).gaps == (60, 60)


def test_several_places_at_once_are_one_gap() -> None:
    pace = pace_of(*((0.0, 60.0),) * 10, *((0.0, 120.0),) * 10)
    assert estimate(pace, 10, 0.0, 120.0) == pytest.approx(60)


def test_a_line_that_stands_still_is_believed_to_be_slow() -> None:
    pace = pace_of((0, 10), (0, 20))
    assert estimate(pace, 2, 0.0, 620.0) == 1200


def test_one_that_came_after_a_quiet_time_is_not_told_of_it() -> None:
    assert estimate(pace_of((0, 10), (0, 20)), 1, 5000.0, 5001.0) == 10


times = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=1, max_size=40)


@given(times, st.integers(1, 1000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_an_estimate_is_never_negative_and_grows_with_the_position(
    places: list[tuple[float, float]], position: int, since: float, now: float
) -> None:
    pace = pace_of(*places)
    assert len(pace.gaps) <= REMEMBERED
    mine, behind = estimate(pace, position, since, now), estimate(pace, position + 1, since, now)
    assert mine is not None
    assert behind is not None
    assert 0 <= mine <= behind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "no estimate yet"),
        (0, "about 10 s"),
        (34, "about 40 s"),
        (60, "about 60 s"),
        (61, "about 1 min"),
        (250, "about 4 min"),
        (7199, "about 120 min"),
        (7200, "about 2 h"),
        (90_000, "about 25 h"),
    ],
)
def test_a_person_reads_no_more_than_is_known(seconds: float | None, text: str) -> None:
    assert about(seconds) == text


def test_the_words() -> None:
    assert told(Wait(3, Hindrance.ROOM, 240), "it is full") == "waits, position 3, about 4 min: it is full"


def test_the_end_of_a_long_line_is_told_seldom() -> None:
    assert tell_again_s(1) == tell_again_s(NEAR) == RETELL_S
    assert tell_again_s(100 * NEAR) == 100 * RETELL_S


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        ("one line; whole", "one line; whole"),
        ("first; more of it\nsecond; more, too\nthird", "first; second"),
        ("", ""),
    ],
)
def test_a_reason_in_short(reason: str, text: str) -> None:
    assert brief(reason) == text


@given(st.text(max_size=60), st.integers(4, 40))
def test_what_is_cut_is_a_beginning_and_short_enough(text: str, most: int) -> None:
    short = cut(text, most)
    assert len(short) <= most
    assert short == text or text.startswith(short.removesuffix("…"))


def test_texts_are_cut_after_a_word() -> None:
    assert cut("one two, three four", 12) == "one two…"
    assert cut("x" * 20, 12) == "x" * 11 + "…"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Room for two nodes of 1 vCPU."""
    world = World(str(tmp_path))
    world.inventories.sync("cloud", Inventory((Machine("m", "z", {"vcpu": 2.0}),), (Zone("z"),)))
    world.project("shop")
    world.project("blog")
    return world


def ask(
    world: World, *names: str, project: str = "shop", count: int = 2, service: str = "s", near: str | None = None
) -> None:
    nodes = planned_nodes(EnvironmentSpec("debian-12", (RoleSpec("web", count),)))
    rules = EnvironmentRules({"web": PlacementRules(near_service=near)})
    for name in names:
        now = world.clock.now()
        fresh = Environment(name, project, service, "", "cloud", E.REQUESTED, nodes, Priority.PUSH, now, now, now + 9e9)
        wanted = replace(fresh, rules=rules)
        world.books.commit(world.books.environments.kind.put(name, wanted, 0))
        world.clock.sleep(0.001)


def look(world: World, seconds: float = 0.0) -> None:
    world.clock.sleep(seconds)
    world.tick.scheduler.reserve(None)


def give_back(world: World, name: str) -> None:
    loaded = world.books.environments.get(name)
    gone = replace(loaded.value, state=E.DESTROYED)
    world.books.commit(world.books.environments.kind.put(name, gone, loaded.version))


def waits(world: World, names: Sequence[str]) -> list[Wait | None]:
    return [world.books.environments.get(name).value.wait for name in names]


def test_positions_count_those_that_wait_alone(world: World) -> None:
    ask(world, "a", "b", "c")
    look(world)
    assert waits(world, "abc") == [None, Wait(1, Hindrance.ROOM), Wait(2, Hindrance.ROOM)]
    reason = world.books.environments.get("b").value.reason
    assert reason.startswith("waits, position 1, no estimate yet: role web: 0 of 2 nodes find a machine")


def test_an_estimate_comes_with_the_first_places(world: World) -> None:
    ask(world, "a", "b", "c", "d")
    look(world)
    give_back(world, "a")
    look(world, 60)
    assert waits(world, "b") == [None]
    look(world, RETELL_S)
    wait = waits(world, "d")[0]
    assert wait is not None
    assert wait.position == 2
    assert wait.estimate_s == pytest.approx(120, rel=0.01)
    assert world.books.environments.get("d").value.reason.startswith("waits, position 2, about 2 min: role web")


def test_a_request_is_not_told_anew_at_every_look(world: World) -> None:
    ask(world, "a", "b")
    look(world)
    version = world.books.environments.get("b").version
    for _ in range(10):
        look(world, 1)
    assert world.books.environments.get("b").version == version


def test_quotas_have_a_line_of_their_own(world: World) -> None:
    world.projects.change("blog", ProjectChange({"environments": 1}))
    ask(world, "a", project="blog", count=1)
    ask(world, "b", "c", project="blog", count=1)
    ask(world, "d")
    look(world)
    line = Hindrance.QUOTA
    assert waits(world, "abcd") == [None, Wait(1, line), Wait(2, line), Wait(1, Hindrance.ROOM)]


def test_one_that_must_not_overtake_is_told_whom(world: World) -> None:
    ask(world, "a", count=1)
    look(world)
    ask(world, "b")
    look(world, 121)
    look(world, 121)
    ask(world, "c", count=1)
    look(world, 1)
    assert waits(world, "c") == [Wait(2, Hindrance.TURN)]
    assert "b waits there for long, and nothing goes before it" in world.books.environments.get("c").value.reason


def test_what_waits_for_a_service_lets_it_go_first_and_follows(world: World) -> None:
    ask(world, "a", count=1, near="db")
    look(world)
    assert waits(world, "a") == [Wait(1, Hindrance.SERVICE)]
    assert "no node of service db stands anywhere" in world.books.environments.get("a").value.reason
    look(world, 121)
    ask(world, "b", count=1, service="db")
    look(world, 1)
    look(world, 1)
    found = [world.books.environments.get(name).value for name in "ab"]
    assert [(one.state, one.nodes[0].zone) for one in found] == [(E.RESERVED, "z")] * 2
