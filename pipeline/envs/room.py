"""Machines for further nodes of an environment that stands, reserved under the ledger."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain import admission
from pipeline.domain.environments import Environment
from pipeline.domain.placement.further import place_further
from pipeline.domain.placement.model import Infeasible, Placed
from pipeline.domain.rules import OperatorRule
from pipeline.envs.books import Books
from pipeline.envs.fleets import Fleets
from pipeline.envs.inventories import Inventories
from pipeline.envs.providers import Provider
from pipeline.ports.common import Clock
from pipeline.ports.stores import Put


@dataclass(frozen=True)
class Reserved:
    """The environment with its machines; `ledger` belongs into the write that says so."""

    environment: Environment
    ledger: Put


@dataclass(frozen=True)
class NoRoom:
    """Why there is none; `never`: waiting is of no use."""

    reason: str
    never: bool = False


class Room:
    """Looks at the inventories as they are; any number of processes at once."""

    def __init__(
        self, books: Books, providers: Callable[[str], Provider], inventories: Inventories, clock: Clock
    ) -> None:
        self._books = books
        self._provider = providers
        self._inventories = inventories
        self._clock = clock

    def find(self, environment: Environment, names: tuple[str, ...]) -> Reserved | NoRoom:
        """Machines for these nodes of it. Places that are promised to requests count as taken."""
        ledger = self._inventories.ledger_version()  # first of all: what is reserved after this look makes another one
        fleets, now = Fleets(self._books, self._inventories), self._clock.now()
        picture = fleets.current(environment.provider, now)
        fleets.keep_nominations(self._books.environments.everything("environments:nominated"))
        picture.remove(environment.id)  # what is known of it may be older than what is asked for
        picture.add(environment)
        most = self._provider(environment.provider).max_nodes
        room = admission.room_for(environment, picture.nodes - len(environment.nodes), most)
        if not isinstance(room, admission.Fits):
            return NoRoom(room.reason, isinstance(room, admission.Infeasible))
        rules = (*self._rules(environment.project), *picture.fleet.inventory.rules)
        placed, decision = place_further(picture.fleet, environment, names, rules, now)
        if not isinstance(decision, Placed):
            return NoRoom(str(decision.explanation), isinstance(decision, Infeasible))
        taken = replace(placed, resizes=placed.resizes + 1, placed_at=now)  # no measurement shows them yet
        return Reserved(taken, self._inventories.ledger_put(ledger))

    def _rules(self, project: str) -> tuple[OperatorRule, ...]:
        loaded = self._books.projects.find(project)
        return () if loaded is None else loaded.value.rules
