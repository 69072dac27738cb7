"""The overcommit failsafe's second step: a machine above its drain limit gives best-effort environments back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.domain.durations import SKEW_S
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.inventory import Inventory, Load, LoadLimits
from pipeline.domain.placement.model import Standing
from pipeline.domain.placement.requests import standing_of
from pipeline.domain.preemption import candidate
from pipeline.domain.resources import DIMENSIONS

#: Only what is in use bears load.
TAKEABLE = frozenset({EnvironmentState.READY, EnvironmentState.LEASED})
#: Rounding, relative to the amount that has to go.
SLACK = 1e-9
#: One dimension of one machine, and an amount of it.
Amounts = Mapping[tuple[str, str], float]


@dataclass(frozen=True)
class TakeBack:
    """A best-effort environment that an overloaded machine gives back, and why."""

    environment: str
    reason: str


def relieving(
    inventory: Inventory,
    loads: Mapping[str, Load],
    environments: Iterable[Environment],
    now: float,
    left_at: Mapping[str, float] | None = None,
) -> list[TakeBack]:
    """The cheapest best-effort environments without which every machine is expected to be below its drain limits.

    None of them could be left out. Where all of them together are not enough, all that help are named. `environments`:
    everything that stands at the provider, also what is on its way out, which counts as gone already. `left_at`: when
    something last went from a machine that does not stand there any more; a measurement from before drains nothing, as
    a stale one does.
    """
    limits = inventory.limits
    if limits is None or not limits.drain:
        return []
    excess = _excess(inventory, limits, loads, now, left_at or {})
    if not excess:
        return []
    known = list(environments)
    shares = _shares(inventory, limits, loads, known, excess)
    candidates = [one for one in known if _takeable(one) and one.id in shares]
    targets = _targets(excess, known, candidates, shares)
    chosen = _chosen(candidates, shares, targets, now)
    return [TakeBack(one.id, _reason(shares[one.id], targets, loads, limits)) for one in chosen]


def _excess(
    inventory: Inventory, limits: LoadLimits, loads: Mapping[str, Load], now: float, left_at: Mapping[str, float]
) -> Amounts:
    """What has to go, where a fresh measurement is above a drain limit."""
    excess = {}
    for machine in inventory.machines:
        load = loads.get(machine.name)
        if load is None or load.at <= left_at.get(machine.name, float("-inf")):
            continue
        if not -SKEW_S <= now - load.at <= limits.stale_s:
            continue
        for dimension, limit in limits.drain.items():
            over = load.used.get(dimension, 0.0) - limit
            if over > 0 and dimension in machine.capacity:
                excess[machine.name, dimension] = over * machine.capacity[dimension]
    return excess


def _shares(
    inventory: Inventory,
    limits: LoadLimits,
    loads: Mapping[str, Load],
    environments: Iterable[Environment],
    excess: Amounts,
) -> Mapping[str, Amounts]:
    """What of each load is put down to each environment: by what its nodes asked for, and never more than that."""
    asked: dict[str, dict[tuple[str, str], float]] = {}
    machines = {machine for machine, _ in excess}
    for environment in environments:
        for node in standing_of(environment):
            if node.machine in machines and node.shown_by(loads[node.machine].at, limits.ramp_s):
                _count(asked.setdefault(environment.id, defaultdict(float)), node, excess)
    total: dict[tuple[str, str], float] = defaultdict(float)
    for amounts in asked.values():
        for spot, amount in amounts.items():
            total[spot] += amount
    capacity = {machine.name: machine.capacity for machine in inventory.machines if machine.name in machines}
    part = {
        (machine, dimension): min(1.0, loads[machine].used[dimension] * capacity[machine][dimension] / amount)
        for (machine, dimension), amount in total.items()
    }
    return {id: {spot: amount * part[spot] for spot, amount in amounts.items()} for id, amounts in asked.items()}


def _count(amounts: dict[tuple[str, str], float], node: Standing, excess: Amounts) -> None:
    for dimension, amount in zip(DIMENSIONS, node.demand, strict=True):
        if amount > 0 and (node.machine, dimension) in excess:
            amounts[node.machine, dimension] += amount


def _targets(
    excess: Amounts, known: Iterable[Environment], candidates: Iterable[Environment], shares: Mapping[str, Amounts]
) -> Amounts:
    """What is left of each excess after what goes anyway, and no more than can be taken at all."""
    leaving = [one.id for one in known if one.state is EnvironmentState.DESTROYING or one.notice is not None]
    takeable = [one.id for one in candidates]
    least = {
        spot: min(amount - _sum(leaving, shares, spot), _sum(takeable, shares, spot)) for spot, amount in excess.items()
    }
    return {spot: amount for spot, amount in least.items() if amount > 0}


def _sum(ids: Iterable[str], shares: Mapping[str, Amounts], spot: tuple[str, str]) -> float:
    return sum(shares[id].get(spot, 0.0) for id in ids if id in shares)


def _takeable(environment: Environment) -> bool:
    return environment.state in TAKEABLE and candidate(environment) is not None


def _chosen(
    candidates: Iterable[Environment], shares: Mapping[str, Amounts], targets: Amounts, now: float
) -> list[Environment]:
    """By what they relieve for the work that is lost with them, until all is relieved; then none too many."""
    left = targets
    waiting, chosen = sorted(candidates, key=lambda one: one.id), []
    while left and waiting:
        best = max(waiting, key=lambda one: _relief(shares[one.id], left, targets) / _cost(one, now))
        if _relief(shares[best.id], left, targets) == 0:
            break
        waiting.remove(best)
        chosen.append(best)
        left = _without([best], shares, left, targets)
    for one in sorted(chosen, key=lambda one: _cost(one, now), reverse=True):
        others = [other for other in chosen if other is not one]
        if not _without(others, shares, targets, targets):
            chosen = others
    return chosen


def _without(
    gone: Iterable[Environment], shares: Mapping[str, Amounts], left: Amounts, targets: Amounts
) -> dict[tuple[str, str], float]:
    """What still has to go after some are gone."""
    named = list(gone)
    after = {spot: amount - sum(shares[one.id].get(spot, 0.0) for one in named) for spot, amount in left.items()}
    return {spot: amount for spot, amount in after.items() if amount > SLACK * targets[spot]}


def _relief(own: Amounts, left: Amounts, targets: Amounts) -> float:
    return sum(min(own.get(spot, 0.0), amount) / targets[spot] for spot, amount in left.items())


def _cost(environment: Environment, now: float) -> float:
    """The work that is lost: node-seconds since it was placed."""
    return len(environment.nodes) * (1.0 + max(0.0, now - environment.placed_at))


def _reason(own: Amounts, targets: Amounts, loads: Mapping[str, Load], limits: LoadLimits) -> str:
    """Told by the machine that it relieves most."""
    helped = [spot for spot in own if spot in targets]
    machine, dimension = max(helped, key=lambda spot: (own[spot] / targets[spot], spot))
    used = loads[machine].used[dimension]
    return f"machine {machine}: measured {dimension} {used:.2f} is above its drain limit {limits.drain[dimension]:g}"
