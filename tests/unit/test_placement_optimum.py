"""Placement against an exhaustive optimum: CP-SAT places the same small instances."""

from __future__ import annotations

import random

from ortools.sat.python import cp_model

from pipeline.domain.inventory import Inventory, Machine, Zone, usable
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Infeasible, Placed, Request, RoleRequest
from pipeline.domain.rules import PlacementRules, Spread
from tests.tools.placement_instances import demand

INSTANCES = 250


def instance(dice: random.Random) -> tuple[Inventory, Request]:
    """A request that is about as large as the inventory, so that fitting is an open question."""
    machines = tuple(
        Machine(
            f"m{at}",
            f"z{at % 2}",
            {"vcpu": float(dice.randint(2, 8)), "memory_mib": 1024.0 * dice.randint(2, 8), "disk_gib": 100.0},
        )
        for at in range(dice.randint(2, 5))
    )
    roles = tuple(
        RoleRequest(
            f"role{at}",
            dice.randint(1, 4),
            demand(float(dice.randint(1, 4)), 1024.0 * dice.randint(1, 4)),
            rules=PlacementRules(spread=dice.choice([Spread.NONE, Spread.NONE, Spread.MACHINE, Spread.ZONE])),
        )
        for at in range(dice.randint(1, 3))
    )
    return Inventory(machines, (Zone("z0"), Zone("z1"))), Request("env", "p", "s", roles)


def optimum(inventory: Inventory, request: Request) -> int | None:
    """The fewest machines that hold the request; None when none do."""
    model = cp_model.CpModel()
    machines = range(len(inventory.machines))
    counts = {
        (role.role, at): model.new_int_var(0, role.count, f"{role.role}@{at}")
        for role in request.roles
        for at in machines
    }
    used = [model.new_bool_var(f"used{at}") for at in machines]
    for role in request.roles:
        model.add(sum(counts[role.role, at] for at in machines) == role.count)
        _spread(model, inventory, role, counts)
    for at, most in zip(machines, usable(inventory), strict=True):
        for dimension in range(3):
            needs = [(counts[role.role, at], round(role.demand[dimension] * 2)) for role in request.roles]
            model.add(sum(count * need for count, need in needs) <= round(most[dimension] * 2) * used[at])
    model.minimize(sum(used))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    status = solver.solve(model)
    return round(solver.objective_value) if status == cp_model.OPTIMAL else None


def _spread(
    model: cp_model.CpModel, inventory: Inventory, role: RoleRequest, counts: dict[tuple[str, int], cp_model.IntVar]
) -> None:
    machines = range(len(inventory.machines))
    if role.rules.spread is Spread.MACHINE:
        for at in machines:
            model.add(counts[role.role, at] <= -(-role.count // len(machines)))
    if role.rules.spread is Spread.ZONE:
        zones = {machine.zone for machine in inventory.machines}
        for zone in zones:
            inside = [counts[role.role, at] for at in machines if inventory.machines[at].zone == zone]
            model.add(sum(inside) <= -(-role.count // len(zones)))


def test_it_finds_what_there_is_and_packs_nearly_as_well() -> None:
    dice = random.Random(20261124)
    solvable = found = machines = fewest = 0
    for _ in range(INSTANCES):
        inventory, request = instance(dice)
        best = optimum(inventory, request)
        answer = decide(Fleet(inventory), request, 0.0)
        if best is None:
            assert not isinstance(answer, Placed)
            continue
        assert not isinstance(answer, Infeasible), f"{request} fits: {answer.explanation}"
        solvable += 1
        if isinstance(answer, Placed):
            found += 1
            machines += len({name for names in answer.machines.values() for name in names})
            fewest += best
    assert solvable > INSTANCES // 4
    assert found >= 0.99 * solvable
    assert machines <= 1.05 * fewest
