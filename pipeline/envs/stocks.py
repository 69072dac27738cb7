"""The registered machines of one provider in the books: leased by one write, given back, and never out of step with
the inventory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pipeline.domain import registered
from pipeline.domain.errors import NotFound
from pipeline.domain.inventory import Inventory, Machine
from pipeline.domain.registered import Lease, Registered, Use, Wanted
from pipeline.envs import jobs
from pipeline.envs.books import LEDGERS, REGISTERED, Books, Ledger, Loaded
from pipeline.envs.events import MACHINE_EVENTS
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.inventories import Inventories, registered_at
from pipeline.ports.common import Clock
from pipeline.ports.stores import Event

#: Two claims for one environment meet in a document that is forgotten after so many seconds.
CLAIM_TTL_S = 3600


@dataclass(frozen=True)
class BookedStock:
    """A `Stock`; any number of processes at once. `alone`: the provider has no other machines."""

    provider: str
    books: Books
    inventories: Inventories
    clock: Clock
    alone: bool = True

    def machines(self) -> Sequence[Registered]:
        return registered_at(self.books, self.provider)

    def claim(self, deployment: str, environment_id: str, ends_at: float, wanted: Sequence[Wanted]) -> None:
        mark = Lease(deployment, environment_id, "", ends_at)
        self.books.again(lambda: self._claim(mark, wanted))

    def _claim(self, mark: Lease, wanted: Sequence[Wanted]) -> None:
        """Under a version of the environment's own: else two claims could give one node two machines."""
        claim = f"claims.{mark.environment}"
        version = self.books.store_version(LEDGERS.name, claim)
        known = {one.value.name: one for one in self._all()}
        now = self.clock.now()
        taken = registered.claimed([one.value for one in known.values()], wanted, mark, now)
        if taken:
            puts = [REGISTERED.put(one.id, one, known[one.name].version) for one in taken]
            once = LEDGERS.put(claim, Ledger(), version, ttl_s=CLAIM_TTL_S)
            self.books.commit(*puts, once, events=[told(one, now) for one in taken])

    def opened(self, environment_id: str, faults: Mapping[str, str]) -> None:
        for name, fault in faults.items():
            self.change(name, partial(_opened, environment_id=environment_id, fault=fault), f"for {environment_id}")

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        for one in [one for one in self.machines() if one.is_of(environment_id)]:
            change = partial(_ending, environment_id=environment_id, ends_at=ends_at)
            self.change(one.name, change, f"{environment_id} ends at another time")

    def give_back(self, environment_id: str, nodes: Collection[str] | None) -> Sequence[Registered]:
        ours = [one for one in self.machines() if one.is_of(environment_id, nodes)]
        now, why = self.clock.now(), f"its lease to {environment_id} is over"
        back = [self.change(one.name, lambda one: _back(one, environment_id, now), why) for one in ours]
        return [one for one in back if one.use is Use.DIRTY]

    def get(self, name: str) -> Loaded[Registered]:
        """NotFound names it."""
        loaded = self.books.registered.find(f"{self.provider}.{name}")
        if loaded is None:
            raise NotFound(f"provider {self.provider} has no registered machine {name}; `greenroom machines` shows all")
        return loaded

    def change(self, name: str, change: Callable[[Registered], Registered], why: str) -> Registered:
        """Change one machine, and its state in the inventory by the same write; as it is then."""
        return self.books.again(lambda: self._change(name, change, why))

    def _change(self, name: str, change: Callable[[Registered], Registered], why: str) -> Registered:
        loaded = self.get(name)
        changed = change(loaded.value)
        if changed != loaded.value:
            self.save(loaded, changed, Asking(TICK, why))
        return changed

    def save(
        self,
        loaded: Loaded[Registered],
        changed: Registered,
        asking: Asking,
        follow: Callable[[Machine], Machine] | None = None,
        passed: tuple[Event, ...] = (),
    ) -> None:
        """Write a machine as it was changed. VersionConflict when somebody was first."""
        now = self.clock.now()
        work = []
        if changed.use is not loaded.value.use:
            work = [jobs.clean(self.provider, changed.name, changed.turn)] if changed.use is Use.DIRTY else [jobs.ADMIT]
        news = (told(changed, now),) if changed.word != loaded.value.word else ()
        put = REGISTERED.put(changed.id, changed, loaded.version)

        def followed(machine: Machine) -> Machine:
            return registered.followed(machine, changed, now)

        self.inventories.alongside(
            self.provider, changed.name, follow or followed, asking, (put,), tuple(work), (*passed, *news)
        )

    def put_right(self) -> None:
        """Let the inventory name exactly the machines that are registered, each in the state that its use asks for.

        Somebody may have put one back into service that is not clean.
        """
        self.take_over()
        known = {one.name: one for one in self.inventories.view(self.provider).inventory.machines}
        for one in self.machines():
            machine = known.get(one.name)
            if machine is not None and registered.followed(machine, one, self.clock.now()) != machine:
                self.books.again(partial(self._follow, one.name))

    def _follow(self, name: str) -> None:
        loaded = self.books.registered.find(f"{self.provider}.{name}")
        if loaded is not None:
            self.save(loaded, loaded.value, Asking(TICK, "it is not as the inventory says"))

    def take_over(self) -> None:
        """Let the inventory name exactly the machines that are registered."""
        if self.alone:
            self.inventories.sync(self.provider, Inventory((), ()))
        else:
            self.inventories.sync_registered(self.provider)

    def _all(self) -> list[Loaded[Registered]]:
        return self.books.registered.everything(f"registered:{self.provider}")


def told(one: Registered, now: float) -> Event:
    """That a machine came into another state, under the subject of all machines."""
    reason = one.fault or one.reason
    data = {"provider": one.provider, "machine": one.name, "for": one.used_by, "reason": reason}
    return Event(MACHINE_EVENTS, f"machine.{one.word}", now, data)


def _opened(one: Registered, environment_id: str, fault: str) -> Registered:
    return registered.opened(one, fault) if one.is_of(environment_id) else one


def _ending(one: Registered, environment_id: str, ends_at: float) -> Registered:
    return registered.ending(one, ends_at) if one.is_of(environment_id) else one


def _back(one: Registered, environment_id: str, now: float) -> Registered:
    return registered.given_back(one, now) if one.is_of(environment_id) else one
