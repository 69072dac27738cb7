"""Whole scenarios with one death more: each run still ends as it would have, and nothing stays taken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.domain.inventory import MachineState
from pipeline.domain.runs import RunState
from pipeline.envs.calls import Breakers
from pipeline.envs.fleets import Fleets
from tests.scenarios.expectations import check_histories
from tests.scenarios.player import Player
from tests.scenarios.world import World

CASES = Path(__file__).parent / "cases"
#: Scenarios, and at how many of the places that they pass somebody dies: evenly spread, one death a play.
KILLS: Mapping[str, int] = {
    "preempted": 30,
    "preempted-at-work": 40,
    "preempted-reservation": 40,
    "relieved": 30,
    "bad-machine": 40,
    "bad-machine-on-probation": 20,
    "deliver-second-build-is-good": 30,
    "machine-gone-while-reserved": 40,
    "destroyed-but-not-seen": 40,
    "create-outage": 30,
    "provider-outage": 15,
    "limits-of-the-provider": 30,
}
#: The same with ticks that are paused after a look into the books.
PAUSES: Mapping[str, int] = {
    "preempted": 20,
    "preempted-at-work": 30,
    "preempted-reservation": 30,
    "relieved": 20,
    "bad-machine": 10,
    "machine-gone-while-reserved": 20,
    "limits-of-the-provider": 15,
}
#: So long is a tick paused: longer than the grace of a preemption.
PAUSE_S = 45
#: Longer than everything that is to be noticed and done again, in seconds; and how often one looks.
PATIENCE_S, LOOK_S = 1500, 5
#: Indexes in which nothing stands when all is over.
EMPTY = (
    "runs:pending",
    "runs:active",
    "triggers:due",
    "environments:requested",
    "environments:nominated",
    "environments:noticed",
    "environments:ending",
    *(f"environments:{what}:cloud" for what in ("standing", "building", "begun", "moving")),
)


@dataclass(frozen=True)
class Rehearsal:
    """A play in which nobody died: the places that were passed, in order, and how each run ended.

    `looks`: how often ticks looked into the books.
    """

    places: tuple[tuple[str, int], ...]
    looks: int
    ends: tuple[tuple[str, int], ...]


@cache
def case_of(name: str) -> Mapping[str, Any]:
    loaded: Mapping[str, Any] = YAML(typ="safe", pure=True).load((CASES / f"{name}.yml").read_text())
    return loaded


@cache
def rehearsal(name: str) -> Rehearsal:
    with TemporaryDirectory() as scratch:
        player = Player(case_of(name), scratch)
        player.rehearse()
        looks = player.world.grave.looks
        let_it_end(player.world)
    return Rehearsal(tuple(player.world.grave.counted()), looks, ends(player.world))


def ends(world: World) -> tuple[tuple[str, int], ...]:
    return tuple((str(run.verdict), run.preempted) for run in world.all_runs())


def let_it_end(world: World) -> None:
    for _ in range(PATIENCE_S // LOOK_S):
        if is_over(world):
            return
        world.advance(LOOK_S)


def is_over(world: World) -> bool:
    runs = world.all_runs()
    return all(run.state is RunState.FINISHED for run in runs) and not world.cloud.marks and not left(world)


def left(world: World) -> dict[str, int]:
    counted = {name: world.store.count(name) for name in EMPTY}
    return {name: count for name, count in counted.items() if count}


def check_nothing_stays_taken(world: World) -> None:
    """No room, slot or pause; and nothing is counted against a budget that the audit stream does not know."""
    assert left(world) == {}
    assert world.cloud.nodes == {}
    assert world.cloud.marks == {}
    picture = Fleets(world.books, world.inventories).current("cloud", world.clock.now())
    assert (picture.nodes, picture.fleet.standing) == (0, {})
    slots = world.books.slots.find("cloud")
    assert slots is None or slots.value.held == {}
    for call, breaker in Breakers(world.books, world.clock).of("cloud").items():
        assert breaker.until <= world.clock.now() + LOOK_S, (call, breaker)
    spent = world.store.get("budget", "cloud")
    passed = (event for event in world.store.events("audit") if not event.data.keys() & {"refused", "verified"})
    assert not Counter(spent.body["times"] if spent else ()) - Counter(event.at for event in passed)
    for machine in world.inventories.view("cloud").inventory.machines:
        out = machine.state is MachineState.QUARANTINED
        assert not out or (machine.back_at or 0.0) > world.clock.now(), machine


def room_of(name: str) -> int:
    """Environments of one node that fit."""
    knobs = case_of(name).get("world", {})
    return int(knobs.get("machines", 0) or knobs.get("max_nodes", 20))


def check_end(world: World, name: str, said: str) -> None:
    known = rehearsal(name)
    runs = world.all_runs()
    told = [f"{run.id}: {run.verdict}: {run.reason}" for run in runs]
    assert [run.verdict for run in runs] == [verdict for verdict, _ in known.ends], f"{said}: {told}"
    more = [run.preempted - was for run, (_, was) in zip(runs, known.ends, strict=True)]
    assert max(more) <= 1, f"{said}: taken back {more} times more"
    room = room_of(name)
    assert world.store.most <= room, f"{said}: {world.store.most} stood where there is room for {room}"
    check_nothing_stays_taken(world)
    check_histories(world)


def spread(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return [(name, number) for name, count in counts.items() for number in range(count)]


@pytest.mark.parametrize(("name", "number"), spread(KILLS))
def test_a_death_more_costs_nothing(name: str, number: int, tmp_path: Path) -> None:
    places = rehearsal(name).places
    place, time = places[number * len(places) // KILLS[name]]
    player = Player(case_of(name), str(tmp_path))
    player.world.grave.dig(place, time)
    player.rehearse()
    let_it_end(player.world)
    said = f"killed {place} for the {time}. time"
    assert player.world.grave.where is None, f"nobody was {said}"
    check_end(player.world, name, said)


@pytest.mark.parametrize(("name", "number"), spread(PAUSES))
def test_a_tick_that_comes_too_late_changes_nothing(name: str, number: int, tmp_path: Path) -> None:
    """It stops after a look; another one takes over, and much happens; then it goes on with what it saw."""
    looks = (number * rehearsal(name).looks) // PAUSES[name] + 1
    player = Player(case_of(name), str(tmp_path))
    world = player.world

    def meanwhile() -> None:
        world.store.writer = "world"
        world.take_over()
        world.advance(PAUSE_S)
        world.store.writer = "tick"

    world.grave.pause(looks, meanwhile)
    player.rehearse()
    let_it_end(world)
    assert world.grave.paused
    check_end(world, name, f"paused after {looks} looks")
