"""What a fleet keeps is never out of date: it answers as one that is made anew."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.domain.inventory import Inventory, Load, LoadLimits, Zone
from pipeline.domain.placement.attempt import Attempt
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import MOST_SHAPES, Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest
from pipeline.domain.placement.shapes import NEVER
from pipeline.domain.qos import QosClass
from tests.tools import placement_instances as instances
from tests.tools.placement_instances import demand

NOW = 1000.0


def limited(dice: random.Random, machines: int) -> Inventory:
    """With uplinks, room for the loss of a zone, and limits of the measured load."""
    inventory = instances.inventory(dice, machines, dice.randint(1, 3))
    return replace(
        inventory,
        zones=tuple(
            Zone(zone.name, zone.region, *(dice.choice([None, 2e8, 1e9]) for _ in range(2))) for zone in inventory.zones
        ),
        spare_zones=dice.choice([frozenset(), frozenset({QosClass.GUARANTEED})]),
        limits=dice.choice([None, LoadLimits(full={"vcpu": 0.9}, stale_s=60.0)]),
    )


def asked(dice: random.Random, name: str) -> Request:
    """A random request whose nodes take of the network, and some of which are guaranteed."""
    request = instances.request(dice, name)
    return replace(request, roles=tuple(_promised(dice, role) for role in request.roles))


def _promised(dice: random.Random, role: RoleRequest) -> RoleRequest:
    vcpu, memory, disk = role.demand[:3]
    network = dice.choice([0.0, 5e7, 1e8])
    return replace(role, demand=demand(vcpu, memory, disk, network), qos_class=dice.choice(list(QosClass)))


def loads(dice: random.Random, inventory: Inventory, at: float) -> dict[str, Load]:
    return {machine.name: Load(at, {"vcpu": dice.random()}) for machine in inventory.machines if dice.random() < 0.9}


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
def test_a_kept_fleet_answers_as_a_fresh_one_after_any_history(seed: int) -> None:
    dice = random.Random(seed)
    inventory = limited(dice, 60)
    fleet = Fleet(inventory, loads=loads(dice, inventory, NOW))
    few = [asked(dice, "") for _ in range(3)]
    for number in range(10):
        now = NOW + number
        request = replace(dice.choice(few), environment=f"env-{number}")
        answer = decide(fleet, request, now, explain=False, tries=4)
        assert answer == decide(fleet.clone(), request, now, explain=False, tries=4)
        if isinstance(answer, Placed):
            fleet.reserve(request, answer, now)
        if fleet.standing and dice.random() < 0.4:
            fleet.built(dice.choice(sorted(fleet.standing)), now)
        if fleet.standing and dice.random() < 0.3:
            fleet.remove(dice.choice(sorted(fleet.standing)))
        if dice.random() < 0.1:
            fleet.set_loads(loads(dice, inventory, now))


@settings(deadline=None)
@given(st.integers(0, 10**9))
def test_where_zones_are_not_looked_at_none_is_short(seed: int) -> None:
    dice = random.Random(seed)
    fleet = Fleet(limited(dice, dice.randint(2, 8)))
    fleet.age(NOW)
    for number in range(8):
        request = asked(dice, f"env-{number}")
        attempt = Attempt(fleet, request)
        placed = all(_one_more(attempt, role) for role in request.roles for _ in range(role.count))
        if placed:
            rows = attempt.chosen.items()
            fleet.reserve(
                request, Placed({role: tuple(fleet.machines[row].name for row in at) for role, at in rows}), NOW
            )


def _one_more(attempt: Attempt, role: RoleRequest) -> bool:
    assert not (attempt.uplinks_suffice and attempt.uplinked_out(role))
    assert not (attempt.spare_suffices and attempt.unspared(role))
    values = attempt.values(role)
    row = int(values.argmax())
    if values[row] == NEVER:
        return False
    attempt.take(role, row)
    return True


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10**9))
def test_nodes_go_where_they_would_one_at_a_time_each_machine_valued_anew(seed: int) -> None:
    dice = random.Random(seed)
    inventory = limited(dice, 40)
    fleet = Fleet(inventory, loads=loads(dice, inventory, NOW))
    fleet.age(NOW)
    few = [asked(dice, "") for _ in range(3)]
    for number in range(8):
        request = replace(dice.choice(few), environment=f"env-{number}")
        quick = Attempt(fleet, request)
        placed = all(quick.place(role) for role in request.roles)
        assert dict(quick.chosen) == _one_at_a_time(fleet.clone(), request)
        if placed:
            rows = quick.chosen.items()
            where = {role: tuple(fleet.machines[row].name for row in at) for role, at in rows}
            fleet.reserve(request, Placed(where), NOW)


def _one_at_a_time(fleet: Fleet, request: Request) -> dict[str, list[int]]:
    """Where the nodes go that find a place, with nothing kept from one node to the next."""
    fleet.age(NOW)
    attempt = Attempt(fleet, request)
    for role in request.roles:
        for _ in range(role.count - len(attempt.chosen[role.role])):
            fleet.shapes.clear()
            attempt.valuations.clear()
            values = attempt.values(role)
            row = int(values.argmax())
            if values[row] == NEVER:
                return dict(attempt.chosen)
            attempt.take(role, row)
    return dict(attempt.chosen)


def test_services_that_ask_for_the_same_share_what_is_kept() -> None:
    dice = random.Random(1)
    fleet = Fleet(instances.inventory(dice, 8, 2))
    for number in range(3 * MOST_SHAPES):
        role = RoleRequest("web", 1, demand(0.5, 256.0))
        decide(fleet, Request(f"env-{number}", "p", f"service-{number}", (role,)), NOW)
    assert len(fleet.shapes) == 1


def test_more_shapes_than_are_kept_are_answered_all_the_same() -> None:
    dice = random.Random(1)
    fleet = Fleet(instances.inventory(dice, 8, 2))
    for number in range(MOST_SHAPES + 10):
        request = Request("env", "p", "s", (RoleRequest("web", 1, demand(0.5, 256.0 + number)),))
        assert isinstance(decide(fleet, request, NOW), Placed)
    assert len(fleet.shapes) == MOST_SHAPES
