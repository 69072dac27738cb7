"""What a fleet remembers of each shape of role: the score of every machine, minus infinity where a filter refuses."""

from __future__ import annotations

from copy import copy as shallow
from dataclasses import dataclass, field

import numpy as np

from pipeline.domain.placement import scores
from pipeline.domain.placement.filters import FILTERS, Filter, Need, Question
from pipeline.domain.placement.fleet import MOST_SHAPES, Flags, Fleet, Floats, Rows
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.rules import Strategy

NEVER = -np.inf
#: The filter that looks at states: what it refuses today, a rule about even shares still counts.
STATE = "state"


@dataclass
class Shape:
    """One kind of role of one service, with the values that were true at `position` of the journal and `epoch`."""

    fleet: Fleet
    role: RoleRequest
    service: str
    strategy: Strategy
    values: Floats = field(default_factory=lambda: np.empty(0))
    position: int = 0
    epoch: int = -1
    fixed: Flags = field(default_factory=lambda: np.empty(0, dtype=bool))
    moving: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        asked = [one for one in FILTERS if one.applies(self.fleet, self.role)]
        self.moving = tuple(one for one in asked if not one.fixed)
        self.need = Need(self.role)
        rows = np.arange(len(self.fleet.machines))
        every = Question(self.fleet, self.role, self.service, self.need, rows)
        self.points = np.zeros(len(rows)) + scores.total(every, self.strategy, fixed=True)
        permitted = np.ones(len(self.fleet.machines), dtype=bool)
        for one in asked:
            if one.fixed and one.name != STATE:
                permitted &= one.allows(every)
        self.permitted_machines = int(permitted.sum())
        self.permitted_zones = len(np.unique(self.fleet.zone[permitted]))
        self.fixed = permitted & self.fleet.in_service
        self.possible = np.flatnonzero(self.fixed)

    def current(self) -> Floats:
        """The value of every machine now; only rows that changed since the last call are looked at."""
        changed = self.fleet.changed_since(self.position)
        if self.epoch != self.fleet.epoch or changed is None or len(changed) > len(self.fleet.machines) // 4:
            self.values = np.full(len(self.fleet.machines), NEVER)
            self.values[self.possible] = self.value(self.possible)
        elif changed:
            rows = np.unique(np.array(changed, dtype=np.intp))
            self.values[rows] = self.value(rows)
        self.epoch, self.position = self.fleet.epoch, self.fleet.position
        return self.values

    def of(self, copy: Fleet) -> Shape:
        """The same values for a copy of the fleet, whose journal is empty."""
        self.current()
        other = shallow(self)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(other, name, value.copy())
        other.fleet, other.position = copy, 0
        return other

    def value(self, rows: Rows, taken: Floats | float = 0.0, nodes: Rows | int = 0) -> Floats:
        """The value of some machines, where the same decision took something of them already."""
        question = Question(self.fleet, self.role, self.service, self.need, rows, taken, nodes)
        allowed = self.fixed[rows]
        for one in self.moving:
            allowed &= one.allows(question)
        points = self.points[rows] + scores.total(question, self.strategy, fixed=False)
        return np.where(allowed, points, NEVER)


def shape_of(fleet: Fleet, request: Request, role: RoleRequest) -> Shape:
    """The kept shape of a role; the one that was used longest ago makes room for a new one."""
    rules = role.rules
    key = (
        role.demand,
        role.image,
        rules.affinities,
        rules.apart_from,
        rules.bare_metal,
        request.service,
        request.strategy,
    )
    shape: Shape | None = fleet.shapes.pop(key, None)
    if shape is None:
        shape = Shape(fleet, role, request.service, request.strategy)
        while len(fleet.shapes) >= MOST_SHAPES:
            fleet.shapes.pop(next(iter(fleet.shapes)))
    fleet.shapes[key] = shape
    return shape
