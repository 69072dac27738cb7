"""The care of registered machines: cleaned after every lease, visited again and again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.domain import registered
from pipeline.domain.errors import InvalidTransition, NotFound, PermanentError, TransientError
from pipeline.domain.registered import Registered, Use
from pipeline.envs import jobs
from pipeline.envs.books import Books
from pipeline.envs.stocks import BookedStock
from pipeline.ports.common import Clock
from pipeline.ports.machines import MachineHands

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Care:
    """Cleans and visits; any number of processes at once."""

    books: Books
    stock: Callable[[str], BookedStock]
    hands: MachineHands
    deployment: str
    clock: Clock

    def clean(self, provider: str, name: str) -> None:
        """Clean a dirty machine, unless somebody does: free if it is clean, quarantined if it cannot be made so."""
        stock = self.stock(provider)
        try:
            mine = self.books.again(lambda: self._begin(stock, name))
        except NotFound:
            return  # it was removed meanwhile
        if mine is None:
            return
        try:
            self._clean(mine)
        except (PermanentError, InvalidTransition) as error:
            why = str(error)
            self._conclude(stock, mine, lambda one: one.to(Use.QUARANTINED, self.clock.now(), reason=why))
        except TransientError as error:
            log.info("machine %s is cleaned later: %s", mine.id, error)
            lost = str(error)
            self._conclude(stock, mine, lambda one: registered.cleaned_later(one, self.clock.now(), lost))
        else:
            self._conclude(stock, mine, lambda one: one.to(Use.FREE, self.clock.now()))

    def _begin(self, stock: BookedStock, name: str) -> Registered | None:
        loaded = stock.get(name)
        if not registered.may_be_cleaned(loaded.value, self.clock.now()):
            return None
        mine = registered.being_cleaned(loaded.value, self.clock.now())
        self.books.commit(self.books.registered.kind.put(mine.id, mine, loaded.version))
        return mine

    def _clean(self, machine: Registered) -> None:
        """Locked before the reset, so that nobody disturbs it, and after it, for what it may have opened."""
        self.hands.take_back(machine)
        self.hands.reset(machine)
        self.hands.take_back(machine)
        marks = self.hands.look(machine)
        if (marks.owner, marks.turn, marks.environment) != (self.deployment, machine.turn, ""):
            raise PermanentError(f"machine {machine.name} is not as it was left after its reset: {marks}")

    def _conclude(self, stock: BookedStock, mine: Registered, change: Callable[[Registered], Registered]) -> None:
        """Whoever took it over meanwhile, or removed it, has the last word."""

        def ours(one: Registered) -> Registered:
            return change(one) if one.turn == mine.turn and one.use is Use.DIRTY else one

        try:
            done = stock.change(mine.name, ours, "it was cleaned")
        except NotFound:
            return
        log.info("machine %s is %s after its cleaning %s", done.id, done.word, done.reason)

    def visit(self, provider: str) -> None:
        """Greet all machines of a provider, and note who does not answer. What fell out of step is put right."""
        stock = self.stock(provider)
        stock.put_right()
        machines = stock.machines()
        if not machines:
            return
        missed = self.hands.greet(machines)
        for one in machines:
            try:
                stock.change(one.name, self._seen(missed.get(one.name, "")), "it was visited")
            except NotFound:
                continue
        self._clean_forgotten(stock)

    def _seen(self, why: str) -> Callable[[Registered], Registered]:
        now = self.clock.now()
        return lambda one: registered.missed(one, why) if why else registered.answered(one, now)

    def _clean_forgotten(self, stock: BookedStock) -> None:
        """Machines whose cleaning was lost, or could not reach them."""
        now = self.clock.now()
        due = [one for one in stock.machines() if registered.may_be_cleaned(one, now)]
        self.books.commit(jobs=[jobs.clean(one.provider, one.name, one.turn) for one in due])
