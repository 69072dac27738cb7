"""Requests for the same find the same: one look and one explanation serve all of them, until something is freed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pipeline.domain.inventory import Inventory, Machine, Zone
from pipeline.domain.placement import engine
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Infeasible, Placed, Request, RoleRequest, Unschedulable
from pipeline.domain.rules import PlacementRules
from pipeline.envs.fleets import Picture
from pipeline.envs.refusals import EXPLAINED_S, LATER, MOST_EXPLAINED, Refusals
from tests.tools.placement_instances import demand

NOW = 1000.0


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Every decision of the engine: whether it was asked to explain."""
    asked: list[bool] = []
    decide = engine.decide

    def counting(fleet: Fleet, request: Request, now: float, *, explain: bool = True, **more: Any) -> object:
        asked.append(explain)
        return decide(fleet, request, now, explain=explain, **more)

    monkeypatch.setattr(engine, "decide", counting)
    return asked


def full() -> Picture:
    """One machine, and it is taken."""
    fleet = Fleet(Inventory((Machine("m0", "z", {"vcpu": 2.0, "memory_mib": 2048.0}),), (Zone("z"),)))
    first = wanting("first", 2.0)
    answer = engine.decide(fleet, first, NOW)
    assert isinstance(answer, Placed)
    fleet.reserve(first, answer, NOW)
    return Picture(fleet, 1)


def wanting(environment: str, vcpu: float = 1.0, project: str = "shop", near: str | None = None) -> Request:
    role = RoleRequest("web", 1, demand(vcpu, 64.0), rules=PlacementRules(near_service=near))
    return Request(environment, project, "s", (role,))


def test_the_second_that_asks_for_the_same_is_not_looked_at(looks: list[bool]) -> None:
    refusals, picture = Refusals(), full()
    looks.clear()
    told = refusals.decide("lab", wanting("env-1"), picture, NOW)
    assert isinstance(told, Unschedulable)
    assert looks == [False, True]
    assert refusals.known("lab", wanting("env-2", project="blog"), picture, NOW) == told
    assert refusals.known("lab", wanting("env-3", vcpu=0.5), picture, NOW) is None, "it asks for less"
    assert refusals.known("elsewhere", wanting("env-4"), picture, NOW) is None


def test_what_was_freed_is_worth_a_look_and_old_reasons_serve_for_a_while(looks: list[bool]) -> None:
    refusals, picture = Refusals(), full()
    told = refusals.decide("lab", wanting("env-1"), picture, NOW)
    picture.freed += 1
    assert refusals.known("lab", wanting("env-1"), picture, NOW + 1) is None
    looks.clear()
    assert refusals.decide("lab", wanting("env-1"), picture, NOW + 1) == told
    assert looks == [False], "its reasons are fresh"
    assert refusals.known("lab", wanting("env-2"), picture, NOW + 1) == told
    looks.clear()
    assert refusals.known("lab", wanting("env-2"), picture, NOW + EXPLAINED_S) is None, "they are old now"
    assert isinstance(refusals.decide("lab", wanting("env-2"), picture, NOW + EXPLAINED_S), Unschedulable)
    assert looks == [False, True]
    picture.fleet.remove("first")
    picture.freed += 1
    assert isinstance(refusals.decide("lab", wanting("env-2"), picture, NOW + EXPLAINED_S), Placed)
    assert refusals.known("lab", wanting("env-2"), picture, NOW + EXPLAINED_S) is None


def test_a_round_explains_so_many_and_the_next_one_the_others(looks: list[bool]) -> None:
    refusals, picture = Refusals(), full()
    shapes = [wanting(f"env-{number}", 1.0 + number / 100) for number in range(MOST_EXPLAINED + 2)]
    looks.clear()
    told = [refusals.decide("lab", one, picture, NOW) for one in shapes]
    assert looks.count(True) == MOST_EXPLAINED
    assert [LATER in str(one) for one in told] == [False] * MOST_EXPLAINED + [True] * 2
    refusals.begin()
    assert all(refusals.known("lab", one, picture, NOW + 1) is not None for one in shapes[:MOST_EXPLAINED])
    for one in shapes[MOST_EXPLAINED:]:
        assert refusals.known("lab", one, picture, NOW + 1) is None
        assert LATER not in str(refusals.decide("lab", one, picture, NOW + 1))


def test_what_nobody_asks_for_any_more_is_forgotten() -> None:
    refusals, picture = Refusals(), full()
    refusals.decide("lab", wanting("env-1"), picture, NOW)
    refusals.begin()
    refusals.begin()
    assert refusals.known("lab", wanting("env-1"), picture, NOW) is None


def test_what_can_never_be_placed_is_not_remembered() -> None:
    refusals, picture = Refusals(), full()
    assert isinstance(refusals.decide("lab", wanting("env-1", 9.0), picture, NOW), Infeasible)
    assert refusals.known("lab", wanting("env-1", 9.0), picture, NOW) is None


def test_whose_it_is_counts_where_a_service_is_to_be_near() -> None:
    refusals, picture = Refusals(), full()
    near = wanting("env-1", near="db")
    assert isinstance(refusals.decide("lab", near, picture, NOW), Unschedulable)
    assert refusals.known("lab", replace(near, environment="env-2"), picture, NOW) is not None
    assert refusals.known("lab", replace(near, project="blog"), picture, NOW) is None


def test_worth_is_asked_once_a_version_of_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def worth(_fleet: Fleet, request: Request) -> bool:
        asked.append(request.environment)
        return True

    monkeypatch.setattr(engine, "worth_waiting", worth)
    refusals, picture = Refusals(), full()
    assert refusals.worth_waiting("lab", wanting("env-1"), picture)
    assert refusals.worth_waiting("lab", wanting("env-2"), picture)
    picture.inventory_version = 2
    assert refusals.worth_waiting("lab", wanting("env-3"), picture)
    assert asked == ["env-1", "env-3"]
