"""Registered machines: leased whole, cleaned in between, and never two at once have one, whoever dies where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from pipeline.domain.environments import Environment, EnvironmentState, NodeState
from pipeline.domain.inventory import MachineState
from pipeline.domain.registered import CLEANING_GRACE_S, Registered, Use
from pipeline.envs.gate import Asking
from pipeline.envs.watch import SECOND_SIGHTING_S
from tests.scenarios.test_requests import GIVE_BACK, INLINE, KEY, filled, made, now
from tests.scenarios.world import World

E, N = EnvironmentState, NodeState
MACHINES = 5
#: Longer than any cleaning that was lost is waited for, and the visit after it.
PATIENCE_S = 30.0 + CLEANING_GRACE_S + 40.0
ONE: Mapping[str, Any] = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"db": {"workload": "high-io"}}},
    "test": [],
}
SINGLE = replace(INLINE, blueprint=json.dumps(ONE))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return filled(tmp_path, registered=MACHINES)


def stock(world: World) -> dict[str, Registered]:
    return {one.name: one for one in (each.value for each in world.books.registered.everything("registered:cloud"))}


def uses(world: World) -> list[str]:
    return sorted(one.word for one in stock(world).values())


def states(world: World) -> dict[str, MachineState]:
    return {one.name: one.state for one in world.inventories.view("cloud").inventory.machines}


def given_back(world: World, environment: Environment) -> None:
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()


def test_a_whole_lease(world: World) -> None:
    environment = made(world)
    assert environment.state is E.LEASED
    mine = {node.machine: node for node in environment.nodes}
    assert len(mine) == 3
    assert uses(world) == ["free"] * 2 + ["leased"] * 3
    for name, node in mine.items():
        assert world.machines.keys[name] == (environment.public_key, KEY)
        assert world.machines.marks[name].environment == environment.id
        assert node.host_public_key == "ssh-ed25519 AAAA"
    given_back(world, environment)
    assert now(world, environment).state is E.DESTROYED
    assert uses(world) == ["free"] * MACHINES
    assert world.machines.resets == dict.fromkeys(mine, 1)
    assert {world.machines.keys[name] for name in mine} == {()}
    assert set(states(world).values()) == {MachineState.IN_SERVICE}


def test_what_finds_no_free_machine_waits_for_one(world: World) -> None:
    first, second = made(world), made(world)
    assert (first.state, second.state) == (E.LEASED, E.REQUESTED)
    given_back(world, first)
    world.advance(5)
    assert now(world, second).state is E.LEASED
    taken = {node.machine for node in now(world, second).nodes}
    assert all(stock(world)[name].used_by.startswith(second.id) for name in taken)


def test_a_dirty_machine_is_nobodys(world: World) -> None:
    environment = made(world)
    for node in environment.nodes:
        world.machines.dead[node.machine] = "its power is off"
    given_back(world, environment)
    assert now(world, environment).state is E.DESTROYED
    assert uses(world) == ["dirty"] * 3 + ["free"] * 2
    assert list(states(world).values()).count(MachineState.DRAINING) == 3
    assert made(world).state is E.REQUESTED


def test_a_reset_that_fails_puts_the_machine_into_quarantine_until_it_is_released(world: World) -> None:
    environment = made(world, SINGLE)
    name = environment.nodes[0].machine
    world.machines.spoiled[name] = "the disk is read-only"
    given_back(world, environment)
    assert now(world, environment).state is E.DESTROYED
    assert (stock(world)[name].use, states(world)[name]) == (Use.QUARANTINED, MachineState.QUARANTINED)
    assert "the disk is read-only" in stock(world)[name].reason
    world.advance(120)
    assert world.machines.resets[name] == 1
    world.machines.spoiled.clear()
    world.registry.release("cloud", name, Asking("operator", "a new disk"))
    world.settle()
    assert (stock(world)[name].use, states(world)[name]) == (Use.FREE, MachineState.IN_SERVICE)
    assert world.machines.resets[name] == 2


def test_a_machine_that_cannot_be_handed_over_sends_its_node_elsewhere(world: World) -> None:
    world.machines.refusing["m1"] = "no such key"
    world.machines.refusing["m2"] = "no such key"
    environment = made(world)
    world.advance(30)
    built = now(world, environment)
    assert built.state is E.LEASED
    assert {node.machine for node in built.nodes} == {"m3", "m4", "m5"}


def test_a_machine_that_dies_loses_its_node_and_comes_back_clean(world: World) -> None:
    environment = made(world, SINGLE)
    name = environment.nodes[0].machine
    world.machines.dead[name] = "its power is off"
    world.advance(35)
    assert states(world)[name] is MachineState.DOWN
    assert "its power is off" in stock(world)[name].fault
    world.advance(SECOND_SIGHTING_S + 60)
    replaced = now(world, environment)
    assert [(node.name, node.state) for node in replaced.nodes] == [("db-0", N.IN_SERVICE)]
    assert replaced.nodes[0].machine != name
    assert stock(world)[name].word == "down"
    world.machines.dead.clear()
    world.advance(35)
    assert (stock(world)[name].word, states(world)[name]) == ("free", MachineState.IN_SERVICE)
    assert world.machines.resets == {name: 1}


def test_a_free_machine_that_was_away_is_cleaned_first(world: World) -> None:
    world.machines.dead["m1"] = "its power is off"
    world.advance(35)
    assert (stock(world)["m1"].word, states(world)["m1"]) == ("down", MachineState.DOWN)
    world.machines.dead.clear()
    world.advance(16)
    assert (stock(world)["m1"].word, world.machines.resets) == ("free", {"m1": 1})


def test_what_an_operator_took_out_stays_out(world: World) -> None:
    environment = made(world, SINGLE)
    name = environment.nodes[0].machine
    asking = Asking("operator", "a new disk", {"in-use": "it must be today"})
    world.registry.set_state("cloud", name, MachineState.DRAINING, asking)
    given_back(world, environment)
    world.advance(40)
    assert (stock(world)[name].use, states(world)[name]) == (Use.FREE, MachineState.DRAINING)


def test_a_machine_that_is_not_clean_is_not_put_back_into_service(world: World) -> None:
    environment = made(world, SINGLE)
    name = environment.nodes[0].machine
    world.machines.spoiled[name] = "the disk is read-only"
    given_back(world, environment)
    world.inventories.set_state("cloud", name, MachineState.IN_SERVICE, Asking("operator", "it looks well"))
    world.advance(16)
    assert (stock(world)[name].use, states(world)[name]) == (Use.QUARANTINED, MachineState.QUARANTINED)


@pytest.mark.parametrize("machines", [0, 2])
def test_a_visit_that_finds_nothing_writes_nothing(machines: int, tmp_path: Path) -> None:
    world = filled(tmp_path, machines=machines, registered=2)
    world.advance(20)
    before = world.inventories.version("cloud"), world.store.versions("registered", ["cloud.m1", "cloud.b1"])
    world.advance(60)
    after = world.inventories.version("cloud"), world.store.versions("registered", ["cloud.m1", "cloud.b1"])
    assert before == after


@cache
def places() -> tuple[tuple[str, int], ...]:
    """Where somebody may die in the life of an environment on registered machines."""
    with TemporaryDirectory() as scratch:
        world = filled(Path(scratch), registered=MACHINES)
        play(world)
        return tuple(dict.fromkeys(world.grave.counted()))


def play(world: World) -> Environment:
    environment = made(world, SINGLE)
    world.advance(PATIENCE_S)
    world.requests.release(environment.id, GIVE_BACK)
    world.settle()
    world.advance(PATIENCE_S)
    return now(world, environment)


def is_writing(place: str) -> bool:
    return place.startswith(("tick", "worker"))


#: Every reach for a machine, and every second of the many writes.
KILLS = [one for at, one in enumerate(places()) if not is_writing(one[0]) or at % 2 == 0]


@pytest.mark.parametrize(("place", "time"), KILLS, ids=str)
def test_whoever_dies_the_lease_ends_and_the_machine_is_clean(place: str, time: int, tmp_path: Path) -> None:
    world = filled(tmp_path, registered=MACHINES)
    world.grave.dig(place, time)
    environment = play(world)
    assert world.grave.where is None, "nobody died"
    assert environment.state is E.DESTROYED, environment.reason
    used = [name for name in stock(world) if world.machines.marks.get(name)]
    assert used
    assert uses(world) == ["free"] * MACHINES
    assert {world.machines.keys[name] for name in used} == {()}
    assert all(world.machines.resets[name] >= 1 for name in used)
    assert not world.broken


BOTH: Mapping[str, Any] = {
    "version": 1,
    "service": "shop",
    "environment": {"image": "debian-12", "roles": {"db": {"workload": "high-io"}, "web": {"count": 2}}},
    "test": [],
}
MIXED = replace(INLINE, blueprint=json.dumps(BOTH))


@pytest.fixture
def both(tmp_path: Path) -> World:
    """A provider of two hypervisors with two registered machines beside them."""
    return filled(tmp_path, machines=2, registered=2)


def machines_of(environment: Environment) -> dict[str, str]:
    return {node.name: node.machine for node in environment.nodes}


def test_an_environment_has_servers_that_are_made_and_machines_that_stand(both: World) -> None:
    environment = made(both, MIXED)
    assert environment.state is E.LEASED, environment.fault
    assert machines_of(environment) == {"db-0": "b1", "web-0": "m1", "web-1": "m2"}
    assert sorted(name for _, name in both.cloud.nodes) == ["web-0", "web-1"]
    assert both.machines.marks["b1"].node == "db-0"
    given_back(both, environment)
    assert now(both, environment).state is E.DESTROYED
    assert (both.cloud.nodes, uses(both)) == ({}, ["free", "free"])


def test_bare_metal_that_is_taken_falls_back_to_a_server(both: World) -> None:
    first, second = made(both, SINGLE), made(both, SINGLE)
    third = made(both, SINGLE)
    assert [machines_of(one)["db-0"][0] for one in (first, second, third)] == ["b", "b", "m"]
    assert third.state is E.LEASED


def test_what_the_cloud_reports_leaves_registered_machines_alone(both: World) -> None:
    known = both.inventories.view("cloud").inventory
    fewer = replace(known, machines=tuple(one for one in known.machines if one.name == "m1"))
    both.inventories.sync("cloud", fewer)
    assert sorted(states(both)) == ["b1", "b2", "m1"]
    both.registry.remove("cloud", "b2", Asking("operator", "sold"))
    assert sorted(states(both)) == ["b1", "m1"]
    both.advance(20)
    assert sorted(states(both)) == ["b1", "m1"]


def test_a_registered_machine_gives_no_address_beside_its_own(both: World) -> None:
    spec = {"image": "debian-12", "roles": {"db": {"workload": "high-io", "floating": True}}}
    environment = made(both, replace(INLINE, blueprint=json.dumps({**BOTH, "environment": spec})))
    both.advance(30)
    failed = now(both, environment)
    assert failed.state is E.DESTROYED
    assert "machine b1 is registered, and has no `floating`" in failed.fault
    assert uses(both) == ["free", "free"]
