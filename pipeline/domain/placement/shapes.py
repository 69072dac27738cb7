"""What a fleet remembers of each shape of role: the score of every machine, minus infinity where a filter refuses."""

from __future__ import annotations

from copy import copy as shallow
from dataclasses import dataclass, field

import numpy as np

from pipeline.domain.placement import scores
from pipeline.domain.placement.filters import FILTERS, STATE, Need, Question, serving
from pipeline.domain.placement.fleet import MOST_SHAPES, Flags, Fleet, Floats, Rows
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.resources import DIMENSIONS
from pipeline.domain.rules import Spread, Strategy

NEVER = -np.inf
NO_VALUES: Floats = np.empty(0)


@dataclass(frozen=True)
class Taken:
    """What a decision took so far: `amounts` (rows x dimensions) and `nodes` of each of some rows."""

    rows: Rows
    amounts: Floats
    nodes: Rows


NOTHING_TAKEN = Taken(np.empty(0, dtype=np.intp), np.empty((0, len(DIMENSIONS))), np.empty(0, dtype=np.intp))


@dataclass
class Shape:
    """One kind of role, with the values that were true at `position` of the journal and `epoch`.

    It knows the filters and scores that may be kept, so services and roles that ask for the same share it.
    """

    fleet: Fleet
    role: RoleRequest
    strategy: Strategy
    values: Floats = field(default_factory=lambda: np.empty(0))
    position: int = 0
    epoch: int = -1

    def __post_init__(self) -> None:
        asked = [one for one in FILTERS if one.applies(self.fleet, self.role)]
        self.moving = tuple(one for one in asked if one.kept and not one.fixed)
        self.moving_scores = tuple(one for one in scores.SCORES if one.kept and not one.fixed)
        self.need = Need(self.role)
        every = Question(self.fleet, self.role, "", self.need, self.fleet.every)
        self.points = np.zeros(len(every.rows))
        scores.add(self.points, [one for one in scores.SCORES if one.fixed], every, self.strategy)
        permitted = np.ones(len(every.rows), dtype=bool)
        for one in asked:
            if one.fixed and one.name != STATE:
                permitted &= one.allows(every)
        self.permitted_machines = int(permitted.sum())
        self.permitted_zones = len(np.unique(self.fleet.zone[permitted]))
        self.fixed: Flags = permitted & serving(self.fleet, self.role)
        self.possible = np.flatnonzero(self.fixed)

    def current(self) -> Floats:
        """The value of every machine now; only rows that changed since the last call are looked at."""
        return self.current_and(NOTHING_TAKEN)[0]

    def current_and(self, taken: Taken) -> tuple[Floats, Floats]:
        """The value of every machine now, and those of some where the same decision took something already.

        One look at both together costs little more than one at either.
        """
        changed = self._changed()
        question = self._question(changed, taken)
        values = self.value(question) if len(question.rows) else NO_VALUES
        self.values[changed] = values[: len(changed)]
        self.epoch, self.position = self.fleet.epoch, self.fleet.position
        return self.values, values[len(changed) :]

    def _changed(self) -> Rows:
        """The rows whose kept values are not true any more."""
        changed = self.fleet.changed_since(self.position)
        if self.epoch != self.fleet.epoch or changed is None or len(changed) > len(self.fleet.machines) // 4:
            self.values = np.full(len(self.fleet.machines), NEVER)
            return self.possible
        return np.array(list(set(changed)), dtype=np.intp)

    def _question(self, changed: Rows, taken: Taken) -> Question:
        if not len(taken.rows):
            return Question(self.fleet, self.role, "", self.need, changed)
        rows = np.concatenate((changed, taken.rows))
        amounts, nodes = np.zeros((len(rows), taken.amounts.shape[1])), np.zeros(len(rows), dtype=np.intp)
        amounts[len(changed) :], nodes[len(changed) :] = taken.amounts, taken.nodes
        return Question(self.fleet, self.role, "", self.need, rows, amounts.T, nodes)

    def of(self, copy: Fleet) -> Shape:
        """The same values for a copy of the fleet, whose journal is empty."""
        self.current()
        other = shallow(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.copy(order="K"))
        other.fleet, other.position = copy, 0
        return other

    def value(self, question: Question) -> Floats:
        """The value of the rows of a question, by what may be kept."""
        allowed = self.fixed[question.rows]
        for one in self.moving:
            allowed &= one.allows(question)
        points = self.points[question.rows]
        scores.add(points, self.moving_scores, question, self.strategy)
        np.copyto(points, NEVER, where=~allowed)
        return points


def shape_of(fleet: Fleet, request: Request, role: RoleRequest) -> Shape:
    """The kept shape of a role; the one that was used longest ago makes room for a new one."""
    rules = role.rules
    key = (role.demand, role.image, rules.affinities, rules.bare_metal, rules.admitted, request.strategy)
    shape: Shape | None = fleet.shapes.pop(key, None)
    if shape is None:
        shape = Shape(fleet, role, request.strategy)
        while len(fleet.shapes) >= MOST_SHAPES:
            fleet.shapes.pop(next(iter(fleet.shapes)))
    fleet.shapes[key] = shape
    return shape


def zone_share(shape: Shape, role: RoleRequest) -> int | None:
    """How many nodes of a role one zone may take; None: any number."""
    bounds = [role.rules.max_per_zone] if role.rules.max_per_zone is not None else []
    if role.rules.spread is Spread.ZONE:
        bounds.append(-(-role.count // max(1, shape.permitted_zones)))
    return min(bounds, default=None)


def machine_share(shape: Shape, role: RoleRequest) -> int | None:
    """How many nodes of a role one machine may take; None: any number."""
    if role.rules.spread is not Spread.MACHINE:
        return None
    return -(-role.count // max(1, shape.permitted_machines))
