"""Which of the machines that may take a node should: small named functions, weighted and summed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.domain.errors import AlreadyExists
from pipeline.domain.placement.filters import Question
from pipeline.domain.placement.fleet import SPARE_DIMS, Floats, columns
from pipeline.domain.rules import Stance, Strategy


@dataclass(frozen=True)
class Score:
    """A wish between 0 and 1 for every row of a question, and how much it weighs; `kept` and `fixed` as of filters."""

    name: str
    weight: float
    of: Callable[[Question, Strategy], Floats | float]
    fixed: bool = False
    kept: bool = False


def _fullness(q: Question, strategy: Strategy) -> Floats:
    """Pack: the fullest machine in use that still fits, else the largest; spread: the emptiest.

    By vcpu, memory and disk. A machine that is opened should take as much of what follows as it can.
    """
    used = columns(q.fleet.used, q.rows) + q.need.spare
    if not isinstance(q.taken, float):
        used += q.taken[:SPARE_DIMS]
    used *= columns(q.fleet.inverse, q.rows)
    half: Floats = np.add.reduce(used, axis=0)
    half /= 2 * SPARE_DIMS
    if strategy is Strategy.SPREAD:
        return 1.0 - 2 * half
    in_use = q.fleet.nodes[q.rows] + q.nodes > 0
    half *= np.where(in_use, 1.0, -1.0)
    half += 0.5
    return half


def _image(q: Question, _strategy: Strategy) -> Floats | float:
    return q.fleet.holding(q.role.image)[q.rows].astype(float) if q.role.image else 0.0


def _preferred(q: Question, _strategy: Strategy) -> Floats | float:
    """The share of the preferences that a machine meets."""
    wishes = [rule for rule in q.role.rules.affinities if rule.stance is Stance.PREFER]
    if not wishes:
        return 0.0
    met = np.zeros(len(q.rows))
    for rule in wishes:
        met += np.any([q.fleet.having(rule.attribute, value)[q.rows] for value in rule.values], axis=0)
    return met / len(wishes)


def _right_kind(q: Question, _strategy: Strategy) -> Floats | float:
    """Bare metal for who wants it, and kept free of everybody else."""
    bare = q.fleet.bare[q.rows]
    if not q.fleet.bare.any():
        return 0.0
    return (bare if q.role.rules.bare_metal is not None else ~bare).astype(float)


#: Weights keep the order: the right kind, then preferences, then the image, then how full it is.
SCORES: list[Score] = [
    Score("fullness", 1.0, _fullness, kept=True),
    Score("image", 2.0, _image, fixed=True),
    Score("preferred", 4.0, _preferred, fixed=True),
    Score("kind", 8.0, _right_kind, fixed=True),
]


def register(extra: Score) -> None:
    """Add a score to the sum, for fleets that are made from then on; the same one again changes nothing.

    AlreadyExists when another one has its name.
    """
    if extra in SCORES:
        return
    if any(one.name == extra.name for one in SCORES):
        raise AlreadyExists(f"there is another score {extra.name}; choose a name that no score has")
    SCORES.append(extra)


def add(points: Floats, scores: Sequence[Score], question: Question, strategy: Strategy) -> None:
    """Add the weighted sum of some scores."""
    for score in scores:
        points += score.weight * score.of(question, strategy)
