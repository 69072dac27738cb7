"""What machines are worth to one role of one request: what is kept for its shape, and what is asked anew."""

from __future__ import annotations

import numpy as np

from pipeline.domain.placement import scores
from pipeline.domain.placement.filters import FILTERS, Question
from pipeline.domain.placement.fleet import Fleet, Floats, Rows
from pipeline.domain.placement.model import Request, RoleRequest
from pipeline.domain.placement.shapes import NEVER, Taken, machine_share, shape_of, zone_share


class Valuation:
    """`per_zone` and `per_machine`: how many nodes of the role one may take; None is any number."""

    def __init__(self, fleet: Fleet, request: Request, role: RoleRequest) -> None:
        self._fleet, self._request, self._role = fleet, request, role
        self.shape = shape_of(fleet, request, role)
        self._filters = [one for one in FILTERS if not (one.kept or one.fixed) and one.applies(fleet, role)]
        self._scores = [one for one in scores.SCORES if not (one.kept or one.fixed)]
        self.per_zone = zone_share(self.shape, role)
        self.per_machine = machine_share(self.shape, role)
        self.demand: Floats = self.shape.need.column[:, 0]

    def values(self, taken: Taken) -> Floats:
        """The value of every machine, some of which this decision took something of already, in an array of its own."""
        current, there = self.shape.current_and(taken)
        values = self._asked_anew(current.copy(), self._question(self._fleet.every))
        if len(taken.rows):
            there = self._asked_anew(there, self._taken(taken))
            # what takes nothing without them takes nothing with them
            values[taken.rows] = np.where(values[taken.rows] == NEVER, NEVER, there)
        return values

    def value(self, taken: Taken) -> Floats:
        """The value of some machines, where the same decision took something of them already."""
        question = self._taken(taken)
        return self._asked_anew(self.shape.value(question), question)

    def _taken(self, taken: Taken) -> Question:
        return self._question(taken.rows, taken.amounts.T, taken.nodes)

    def _question(self, rows: Rows, taken: Floats | float = 0.0, nodes: Rows | int = 0) -> Question:
        need = self.shape.need
        return Question(self._fleet, self._role, self._request.service, need, rows, taken, nodes)

    def _asked_anew(self, values: Floats, question: Question) -> Floats:
        scores.add(values, self._scores, question, self._request.strategy)
        for one in self._filters:
            np.copyto(values, NEVER, where=~one.allows(question))
        return values
