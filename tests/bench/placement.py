"""`placement_5k` and `placement_100k`: decisions with all rules on, one core, nothing stored."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np

from pipeline.domain.inventory import Aggregate, Inventory, Load, LoadLimits, Machine, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest
from pipeline.domain.qos import QosClass
from pipeline.domain.rules import Affinity, Attribute, PlacementRules, Spread, Stance
from tests.bench.figures import Figure

GIB = 1024.0
CAPACITY = {
    "vcpu": 64.0,
    "memory_mib": 256 * GIB,
    "disk_gib": 4000.0,
    "disk_read_iops": 2e5,
    "disk_write_iops": 1e5,
    "disk_read_bytes": 2e9,
    "disk_write_bytes": 1e9,
    "network_in": 25e9,
    "network_out": 25e9,
}


def inventory(machines: int, zones: int) -> Inventory:
    """Machines in equal racks of two hardware types; every tenth holds the image, all have limits and overcommit."""
    names = [f"rack-{at:03}" for at in range(zones)]
    return Inventory(
        machines=tuple(
            Machine(
                f"m{at:06}",
                names[at % zones],
                CAPACITY,
                aggregates=("new",) if at % 3 else ("old",),
                features=frozenset({"ssd"}) if at % 2 else frozenset(),
                images=frozenset({"debian-12"}) if at % 10 == 0 else frozenset(),
                max_builds=16,
            )
            for at in range(machines)
        ),
        zones=tuple(Zone(name, f"region-{at % 3}", 4e12, 4e12) for at, name in enumerate(names)),
        aggregates=(Aggregate("new", {"vcpu": 4.0}), Aggregate("old", {"vcpu": 2.0})),
        spare_zones=frozenset({QosClass.GUARANTEED}),
        limits=LoadLimits(full={"vcpu": 8.0, "memory_mib": 1.0}, stale_s=1e12),
    )


def idle(at: float) -> Load:
    """A machine on which little goes on."""
    return Load(at, {"vcpu": 0.2, "memory_mib": 0.1})


def requests() -> Iterator[Request]:
    """Environments of nine nodes in three roles of 20 services, with spread, anti-affinity, rules and rates."""
    ssd = Affinity(Stance.REQUIRE, Attribute.FEATURE, ("ssd",))
    new = Affinity(Stance.PREFER, Attribute.AGGREGATE, ("new",))
    rates = (200.0, 200.0, 5e6, 5e6, 1e8, 1e8, 0.0)
    for number in cycle(range(1_000_000)):
        service = f"service-{number % 20}"
        apart = (f"service-{(number + 1) % 20}",)
        yield Request(
            f"env-{number}",
            f"project-{number % 7}",
            service,
            (
                RoleRequest("web", 4, (1.0, 2048.0, 10.0, *rates), "debian-12", rules=_rules(Spread.ZONE, apart, new)),
                RoleRequest(
                    "db",
                    2,
                    (2.0, 4096.0, 40.0, *rates),
                    "debian-12",
                    QosClass.GUARANTEED,
                    _rules(Spread.MACHINE, apart, ssd),
                ),
                RoleRequest("batch", 3, (1.0, 1024.0, 10.0, *rates), "debian-12", rules=_rules(Spread.NONE, apart)),
            ),
        )


def _rules(spread: Spread, apart: tuple[str, ...], *affinities: Affinity) -> PlacementRules:
    return PlacementRules(affinities, spread, apart_from=apart)


def decisions(machines: int, zones: int, environments: int) -> list[float]:
    """Seconds of each decision with its reservation, after each shape was seen once; half go again, so that the
    inventory neither fills up nor stays empty."""
    measured = idle(999.0)
    known = inventory(machines, zones)
    fleet = Fleet(known, loads={machine.name: measured for machine in known.machines})
    took, now = [], 1000.0
    warm = 40
    for number, request in enumerate(islice(requests(), environments + warm)):
        now += 0.01
        began = time.perf_counter()
        answer = decide(fleet, request, now, explain=False)
        if not isinstance(answer, Placed):
            raise SystemExit(f"{request.environment} found no place")
        fleet.reserve(request, answer, now)
        took.append(time.perf_counter() - began)
        fleet.built(request.environment, now)
        if number % 2:
            fleet.remove(f"env-{number - 1}")
    return took[warm:]


NODES = 9


def measure() -> Iterator[Figure]:
    """Both sizes, in one process."""
    small = decisions(5000, 75, 2000)
    rate = NODES * len(small) / sum(small)
    p50, p99 = (float(np.percentile(small, at)) * 1000 for at in (50, 99))
    told = f"one core, all rules on; p50 {p50:.2f} ms, p99 {p99:.2f} ms an environment (bar 2 ms)"
    yield Figure("placement_5k", rate, "nodes/s", told, "10000")
    large = decisions(100_000, 1500, 500)
    rate = NODES * len(large) / sum(large)
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    growth = (sum(large) / len(large)) / (sum(small) / len(small))
    told = f"{resident:.0f} MB resident (bar 1000), {growth:.1f} times the time of 5,000 machines"
    yield Figure("placement_100k", rate, "nodes/s", told, "2000")
