"""Whether projects hold what they are entitled to, while there is not enough for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.domain.admission import Use, largest_part, total


def fairness(weights: Mapping[str, float], in_use: Mapping[str, Use], wanted: Mapping[str, Use]) -> float | None:
    """Jain's index of what each project holds over what it is entitled to; None while less than two have to wait.

    A project holds its largest part of any resource, as in the order of admission. Who holds all that it wants is
    entitled to that and no more; what it leaves is for the others, by their weights.
    """
    if sum(use.environments > 0 for use in wanted.values()) < 2:
        return None
    whole = total(in_use.values())
    held = {name: largest_part(use, whole) for name, use in in_use.items()}
    demands = {name: largest_part(use.plus(wanted[name]), whole) for name, use in in_use.items()}
    entitled = entitlements(weights, demands, sum(held.values()))
    return jain([held[name] / due for name, due in entitled.items() if due > 0])


def entitlements(weights: Mapping[str, float], demands: Mapping[str, float], whole: float) -> Mapping[str, float]:
    """The max-min fair parts of a total: by weight, nobody more than its demand."""
    parts: dict[str, float] = {}
    left, weight = whole, sum(weights[name] for name in demands)
    for name in sorted(demands, key=lambda name: (demands[name] / weights[name], name)):
        parts[name] = min(demands[name], left * weights[name] / weight)
        left, weight = left - parts[name], weight - weights[name]
    return parts


def jain(values: Sequence[float]) -> float:
    """Jain's fairness index: 1 when all values are alike, 1/n when one has everything."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0
