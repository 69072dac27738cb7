"""Placement by measurements that come 20 s late: 30 starts a second on 50 machines.

Every other node bears its whole load from the moment it is placed, the others from the end of their build on, 5 to 40 s
later: then measurements have shown it idle for a while. The hard threshold is a share of a machine's real vcpu; five
times its vcpu may be promised, so that nothing but the measured load stands between a machine and its threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, Zone
from pipeline.domain.placement.engine import decide
from pipeline.domain.placement.fleet import Fleet
from pipeline.domain.placement.model import Placed, Request, RoleRequest
from pipeline.domain.placement.requests import demand_of
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from tests.bench.figures import Figure

MACHINES, VCPU, FULL = 50, 32.0, 0.8
LAG_S, EVERY_S, STARTS, LASTS_S = 20, 5, 30, 240
ROLE = RoleRequest("app", 1, demand_of(Resources(1, 64, 1), QosProfile()))


def measure() -> Iterator[Figure]:
    above, peak = _simulated(corrected=True)
    worse, worst = _simulated(corrected=False)
    what = f"{STARTS} starts/s on {MACHINES} machines for {LASTS_S} s, metrics {LAG_S} s late"
    without = f"{worse} machines and {worst:.2f} by measurements alone"
    yield Figure("placement_lag_machines_above", above, "machines", f"{what}; {without}", "== 0")
    yield Figure("placement_lag_peak", peak, "share of real vcpu", f"hard threshold {FULL}; {without}", f"<= {FULL}")


def _inventory() -> Inventory:
    capacity = {"vcpu": VCPU, "memory_mib": 1e6, "disk_gib": 1e5}
    machines = tuple(Machine(f"m{n}", f"z{n % 5}", capacity) for n in range(MACHINES))
    limits = LoadLimits({"vcpu": FULL}, {"vcpu": 0.9}, stale_s=60)
    return Inventory(machines, tuple(Zone(f"z{n}") for n in range(5)), overcommit={"vcpu": 5}, limits=limits)


def _simulated(*, corrected: bool) -> tuple[int, float]:
    """Machines that were ever above the threshold, and the highest share of any."""
    dice, fleet = Random(5), Fleet(_inventory())
    load = dict.fromkeys((f"m{n}" for n in range(MACHINES)), 0.0)
    ends: dict[int, list[tuple[str, str]]] = {}
    built: dict[int, list[tuple[str, str, int]]] = {}
    history: dict[int, dict[str, Load]] = {-LAG_S: {name: Load(-LAG_S, {"vcpu": 0.0}) for name in load}}
    above: set[str] = set()
    peak = 0.0
    for second in range(LASTS_S):
        if second % EVERY_S == 0:
            history[second] = {name: Load(second, {"vcpu": used / VCPU}) for name, used in load.items()}
        if (known := history.pop(second - LAG_S, None)) is not None:
            fleet.set_loads(known)
        for environment, machine in ends.pop(second, []):
            fleet.remove(environment)
            load[machine] -= 1
        for environment, machine, later in built.pop(second, []):
            fleet.built(environment, second)
            load[machine] += later
        for number, (environment, machine) in enumerate(_started(fleet, second, corrected=corrected)):
            later, done = number % 2, second + dice.randint(5, 40)
            load[machine] += 1 - later
            built.setdefault(done, []).append((environment, machine, later))
            ends.setdefault(done + dice.randint(20, 80), []).append((environment, machine))
        above |= {name for name, used in load.items() if used > VCPU * FULL}
        peak = max(peak, max(load.values()) / VCPU)
    return len(above), peak


def _started(fleet: Fleet, second: int, *, corrected: bool) -> Iterator[tuple[str, str]]:
    for number in range(STARTS):
        request = Request(f"e{second}-{number}", "bench", "bench", (ROLE,))
        now = second + (number + 1) / (STARTS + 1)
        decision = decide(fleet, request, now, explain=False)
        if isinstance(decision, Placed):
            fleet.reserve(request, decision, now)
            if not corrected:  # as if it had been there when the machines were measured
                there = fleet.remove(request.environment)
                fleet.add([one._replace(since=-1e9, building=False) for one in there])
            yield request.environment, decision.machines["app"][0]
