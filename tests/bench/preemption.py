"""`preemption_20k`: who must go for a guaranteed request, among 20,000 best-effort environments on 5,000 machines."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from pipeline.domain.blueprint import Priority
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Request, RoleRequest, Standing
from pipeline.domain.preemption import Candidate, preempt
from pipeline.domain.qos import QosClass
from pipeline.domain.resources import NOTHING
from tests.bench.figures import Figure, median
from tests.bench.placement import GIB, inventory

ON_EACH, ROUNDS = 4, 5


def measure() -> Iterator[Figure]:
    """Every machine is full of four, and the request takes the room of six: the median of some searches."""
    known = inventory(5000, 75)
    machines = tuple(replace(machine, max_builds=None) for machine in known.machines)
    standing = [
        _quarter(f"env-{machine.name}-{number}", machine.name) for machine in machines for number in range(ON_EACH)
    ]
    fleet = Fleet(replace(known, machines=machines, limits=None, spare_zones=frozenset()), standing)
    candidates = [Candidate(one.environment, Priority.PUSH, float(at)) for at, one in enumerate(standing)]
    role = RoleRequest("db", 3, (4.0, 128 * GIB, 100.0, *NOTHING[3:]), qos_class=QosClass.GUARANTEED)
    request = Request("env-firm", "shop", "shop", (role,))
    took = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        found = preempt(fleet, request, candidates, 0.0)
        took.append(time.perf_counter() - began)
        if found is None or len(found.victims) != 2 * role.count:
            raise SystemExit(f"six must go, and found was {found}")
    told = "20,000 candidates on 5,000 machines, six of them go; the fleet is left as it was"
    yield Figure("preemption_20k", median(took) * 1000, "ms", told)


def _quarter(environment: str, machine: str) -> Standing:
    demand = (1.0, 64 * GIB, 100.0, *NOTHING[3:])
    return Standing(environment, "other", "web", machine, demand, QosClass.BEST_EFFORT)
