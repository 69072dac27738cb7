"""A long line costs little: what is refused once is refused to all that ask for the same, and a look has an end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import Mock

import pytest

from pipeline.adapters.clock import ManualClock
from pipeline.adapters.stores.memory import MemoryStore
from pipeline.domain.blueprint import EnvironmentSpec, RoleSpec
from pipeline.domain.environments import EnvironmentState
from pipeline.domain.inventory import Machine
from pipeline.domain.placement import engine
from pipeline.domain.placement.model import Decision
from pipeline.envs.books import PAGE, Books
from pipeline.envs.kept import Kept
from pipeline.envs.refusals import Refusal, Refusals
from pipeline.envs.scheduler import LOOK_S
from tests.tools.lab import Lab
from tests.tools.requests import SINGLE, ask, requested

PAIR = EnvironmentSpec("debian-12", (RoleSpec("web", count=2),))
E = EnvironmentState


@pytest.fixture
def lab() -> Lab:
    lab = Lab()
    lab.declare(Machine("m1", "z1", {"vcpu": 4.0}))
    return lab


@pytest.fixture
def decided(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that were looked at closely, and what shall happen at each."""
    seen: list[str] = []
    decide: Callable[..., Decision] = engine.decide

    def counted(*words: object, **more: object) -> Decision:
        seen.append(words[1].environment)  # type: ignore[attr-defined]  # a request
        return decide(*words, **more)

    monkeypatch.setattr(engine, "decide", counted)
    return seen


def test_one_of_many_that_ask_for_the_same_is_looked_at(lab: Lab, decided: list[str]) -> None:
    lab.place(EnvironmentSpec("debian-12", (RoleSpec("web", count=4),)))
    decided.clear()
    ask(lab.books, [requested(f"env-a{at:03}", SINGLE, "lab", lab.clock.now(), f"p{at % 2}") for at in range(200)])
    ask(lab.books, [requested(f"env-b{at:03}", PAIR, "lab", lab.clock.now(), "p1") for at in range(200)])
    lab.scheduler.reserve(None)
    assert sorted(decided) == ["env-a000", "env-a001", "env-b000"], "of two projects, the second of which asks for both"
    decided.clear()
    lab.scheduler.reserve(None)
    assert decided == []


def test_when_something_is_freed_they_are_looked_at_in_turn(lab: Lab) -> None:
    lab.place(EnvironmentSpec("debian-12", (RoleSpec("web", count=4),)))
    ask(lab.books, [requested(f"env-a{at:03}", SINGLE, "lab", 1.0 + at) for at in range(20)])
    lab.scheduler.reserve(None)
    loaded = lab.books.environments.get("env-1")
    gone = replace(loaded.value, state=E.DESTROYED)
    lab.books.commit(lab.books.environments.kind.put(gone.id, gone, loaded.version))
    lab.scheduler.reserve(None)
    reserved = [one.value.id for one in lab.books.environments.everything("environments:standing:lab")]
    assert reserved == ["env-a000", "env-a001", "env-a002", "env-a003"]


def test_a_look_has_an_end_and_the_next_one_goes_on(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    decide: Callable[..., Decision] = engine.decide

    def slow(*words: object, **more: object) -> Decision:
        lab.clock.sleep(LOOK_S / 2)
        return decide(*words, **more)

    monkeypatch.setattr(engine, "decide", slow)
    specs = [EnvironmentSpec("debian-12", (RoleSpec("web", count=1, size=size),)) for size in ("small", "medium")]
    lab.place(EnvironmentSpec("debian-12", (RoleSpec("web", count=4),)))
    ask(lab.books, [requested(f"env-{at}", specs[at % 2], "lab", lab.clock.now(), f"p{at}") for at in range(2, 8)])
    looks = 0
    while any(one.wait is None for one in lab.scheduler.waiting().values()):
        lab.scheduler.reserve(None)
        looks += 1
        assert looks < 10
    assert looks > 1


@pytest.mark.parametrize(("epochs", "pictures"), [((1, 2, 3), 1), ((1, 3), 2)])
def test_pictures_are_made_anew_only_when_another_one_led(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, epochs: tuple[int, ...], pictures: int
) -> None:
    view = Mock(side_effect=lab.inventories.view)
    monkeypatch.setattr(lab.inventories, "view", view)
    lab.place(EnvironmentSpec("debian-12", (RoleSpec("web", count=4),)), "env-all")
    view.reset_mock()
    lab.request()
    for epoch in range(1, max(epochs) + 1):
        fence = lab.store.acquire("tick", "me", 5.0)
        assert fence is not None
        if epoch in epochs:
            lab.scheduler.reserve(fence)
        lab.store.release(fence, "me")
    assert view.call_count == pictures


def test_a_refusal_holds_as_long_as_its_circumstances_and_no_longer_than_it_says() -> None:
    refusals = Refusals()
    environment = requested("env-1", SINGLE, "lab", 1.0)
    kind = refusals.kind(environment, ())
    assert refusals.kind(replace(environment, id="env-2"), ()) == kind
    assert refusals.kind(replace(environment, id="env-3", provider="other"), ()) != kind
    assert refusals.kind(replace(environment, id="env-4", avoid=("m1",)), ()) != kind
    refusals.note(kind, Refusal((1,), "full", until=10.0))
    assert refusals.find(kind, (1,), 9.0) is not None
    assert refusals.find(kind, (2,), 9.0) is None
    assert refusals.find(kind, (1,), 10.0) is None
    refusals.keep(["env-3"])
    assert refusals.find(kind, (1,), 9.0) is None


def test_what_is_kept_is_what_stands_there() -> None:
    books = Books(MemoryStore(ManualClock()))
    kept = Kept(books.environments, "environments:requested")
    many = [requested(f"env-{at:05}", SINGLE, "lab", 1.0 + at) for at in range(PAGE + 10)]
    ask(books, many)
    assert kept.everything() == books.environments.everything("environments:requested")
    told = replace(many[5], reason="it is full")
    gone = replace(many[6], state=E.WITHDRAWN)
    books.commit(*(books.environments.kind.put(one.id, one, 1) for one in (told, gone)))
    ask(books, [requested("env-new", SINGLE, "lab", 0.5)])
    now = kept.everything()
    assert now == books.environments.everything("environments:requested")
    assert [one.value.id for one in now[:2]] == ["env-new", "env-00000"]
    assert kept.everything()[1].value is now[1].value
