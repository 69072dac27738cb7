"""The register of machines: added when they let the service in, removed, taken out and put back."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.domain import registered
from pipeline.domain.errors import AlreadyExists, HostKeyUnknown, InfraError, InvalidTransition, Unreachable, UserError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import Machine, MachineState
from pipeline.domain.registered import Lease, Registered, Use
from pipeline.envs import jobs
from pipeline.envs.books import REGISTERED, Books
from pipeline.envs.gate import Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.stocks import BookedStock, told
from pipeline.ports.common import Clock
from pipeline.ports.machines import MachineHands, Marks
from pipeline.ports.stores import Delete, Event

log = logging.getLogger(__name__)
#: A registered machine that goes into these states is taken away from whoever has it.
OUT = frozenset({MachineState.DRAINING, MachineState.QUARANTINED, MachineState.MAINTENANCE})


@dataclass(frozen=True)
class Registry:
    """Any number of processes at once. `providers` are those that take registered machines."""

    books: Books
    stock: Callable[[str], BookedStock]
    hands: MachineHands
    inventories: Inventories
    gate: Gate
    deployment: str
    clock: Clock
    providers: tuple[str, ...]

    def register(self, wanted: Registered, asking: Asking) -> Registered:
        """Register a machine, seen to let the service in; it is cleaned before anybody gets it.

        Errors: UserError says what is wrong with it, AlreadyExists who has it, HostKeyUnknown which key it shows,
        Unreachable why nobody gets in. Nothing is written then, nor in a dry run.
        """
        self._check_provider(wanted.provider)
        one = registered.checked(wanted)
        self._check_new(one)
        marks = self._looked_at(one)
        if marks.owner not in {"", self.deployment}:
            what = f"machine {one.name} is registered by deployment {marks.owner}"
            raise AlreadyExists(f"{what}: remove it there, or /etc/greenroom from the machine")
        found = _as_found(one, marks, self.clock.now())
        if not asking.dry_run:
            self._add(found, asking)
        return found

    def _check_provider(self, provider: str) -> None:
        if provider not in self.providers:
            known = ", ".join(self.providers) or "none"
            raise UserError(
                f"provider {provider} takes no registered machines (`registered` in its settings); these do: {known}"
            )

    def _check_new(self, one: Registered) -> None:
        for other in (loaded.value for loaded in self.books.registered.everything("registered")):
            if other.id == one.id:
                raise AlreadyExists(f"provider {one.provider} has a machine {one.name} already")
            same = (other.login.address, other.login.port) == (one.login.address, one.login.port)
            if same:
                raise AlreadyExists(f"{one.login.address}:{one.login.port} is registered as {other.id} already")

        if one.name in {known.name for known in self.inventories.view(one.provider).inventory.machines}:
            raise AlreadyExists(f"the inventory of provider {one.provider} has a machine {one.name} already")

    def shown_host_key(self, address: str, port: int) -> str:
        """The host key that an address shows, for a person to compare; Unreachable when nobody answers."""
        try:
            return self.hands.shown_host_key(address, port)
        except InfraError as error:
            raise Unreachable(f"no host key was shown: {error}") from error

    def _looked_at(self, one: Registered) -> Marks:
        try:
            if not one.login.host_key:
                shown = self.hands.shown_host_key(one.login.address, one.login.port)
                what = f"machine {one.name} shows the host key {shown}"
                raise HostKeyUnknown(f"{what}: compare it with the machine's own, and send it as `host_key`", shown)
            return self.hands.look(one)
        except InfraError as error:
            raise Unreachable(_unreached(one, error)) from error

    def _add(self, one: Registered, asking: Asking) -> None:
        work = [jobs.clean(one.provider, one.name, one.turn)] if one.use is Use.DIRTY else []
        put = REGISTERED.put(one.id, one, 0)
        line = self.inventories.audit("register", f"machine {one.provider}/{one.name}", asking)
        self.books.commit(put, events=[line, told(one, self.clock.now())], jobs=work)
        self.stock(one.provider).take_over()

    def find(self, provider: str, name: str) -> Registered | None:
        """The machine, if it is registered."""
        loaded = self.books.registered.find(f"{provider}.{name}")
        return None if loaded is None else loaded.value

    def remove(self, provider: str, name: str, asking: Asking) -> Registered:
        """Forget a machine, through the gate: not while it is leased."""
        one = self.books.again(lambda: self._remove(provider, name, asking))
        if not asking.dry_run:
            self.stock(provider).take_over()
            self._forget(one)
        return one

    def _remove(self, provider: str, name: str, asking: Asking) -> Registered:
        self._check_provider(provider)
        loaded = self.stock(provider).get(name)
        passed = self._pass(loaded.value, "forgotten", asking)
        writes = [] if asking.dry_run else [Delete(REGISTERED.name, loaded.value.id, loaded.version)]
        self.books.commit(*writes, events=passed)
        return loaded.value

    def _forget(self, one: Registered) -> None:
        """Let the machine be registered elsewhere; one that does not answer keeps its marks."""
        last = replace(one, turn=one.turn + 1)
        try:
            if one.lease is not None:
                self.hands.take_back(last)
            self.hands.forget(last)
        except (InfraError, InvalidTransition) as error:
            log.warning("machine %s keeps the marks in /etc/greenroom: %s", one.id, error)

    def release(self, provider: str, name: str, asking: Asking) -> Registered:
        """Clean a machine that is quarantined or was taken out, and put it back when it is clean."""
        return self.books.again(lambda: self._release(provider, name, asking))

    def _release(self, provider: str, name: str, asking: Asking) -> Registered:
        self._check_provider(provider)
        stock = self.stock(provider)
        loaded = stock.get(name)
        now = self.clock.now()
        dirty = replace(registered.to_be_cleaned(loaded.value, now), cleaning_until=0.0)
        line = self.inventories.audit("release", f"machine {provider}/{name}", asking)
        if asking.dry_run:
            self.books.commit(events=[line])
            return loaded.value

        def put_back(machine: Machine) -> Machine:
            return machine.to(MachineState.DRAINING, now, registered.CLEANING)

        stock.save(loaded, dirty, asking, put_back, (line,))
        return dirty

    def set_state(self, provider: str, name: str, state: MachineState, asking: Asking) -> Machine:
        """As the inventory does it; a registered machine is not taken away from whoever has it leased."""
        one = self.find(provider, name)
        if one is not None and state in OUT:
            self.books.commit(events=self._pass(one, str(state), asking))
        return self.inventories.set_state(provider, name, state, asking)

    def _pass(self, one: Registered, into: str, asking: Asking) -> tuple[Event, ...]:
        """GuardRefused names the node whose machine it is."""
        used_by = (one.used_by,) if one.lease is not None else ()
        facts = Facts(who=asking.who, used_by=used_by, now=self.clock.now())
        return self.gate.judge(Act.TAKE_OUT, f"machine {one.provider}/{one.name} into {into}", facts, asking).events


def _as_found(one: Registered, marks: Marks, now: float) -> Registered:
    """A machine that is new in the books: dirty until its reset worked once, or leased to whom it says it is."""
    new = replace(one, since=now, registered_at=now, turn=marks.turn)
    if not (marks.owner and marks.environment):
        return new
    lease = Lease(marks.owner, marks.environment, marks.node, marks.ends_at, open=True)
    return replace(new, use=Use.LEASED, lease=lease)


def _unreached(one: Registered, error: Exception) -> str:
    login = one.login
    return (
        f"machine {one.name} was not registered: {error}. Let sshd answer at {login.address}:{login.port}, and let the"
        f" key of `greenroom machines key` log in as {login.user}, who is root or may use sudo"
    )
