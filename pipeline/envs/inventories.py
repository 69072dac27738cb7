"""What machines the providers have: kept in the books, one document a machine, changed under the ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.domain import inventory as machines_
from pipeline.domain.changes import changes
from pipeline.domain.errors import NotFound
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import Inventory, Load, LoadLimits, Machine, MachineState, Zone, checked
from pipeline.domain.registered import Registered, joined, without
from pipeline.envs.books import INVENTORIES, LEDGERS, LOADS, MACHINES, Books, Ledger, Loaded, Loads, MachineRecord
from pipeline.envs.events import MACHINE_EVENTS
from pipeline.envs.gate import AUDIT, Asking, Gate, check_names
from pipeline.ports.common import Clock
from pipeline.ports.stores import Delete, Event, JobRequest, Put

#: The one ledger.
PLACEMENT = "placement"
#: A wish, and no fact that Greenroom cannot change, as `down` is: nothing may stand there.
OUT = frozenset({MachineState.MAINTENANCE})
#: What the audit stream calls acts of which no guard is asked, by the state after them.
ACTS = {
    MachineState.MAINTENANCE: Act.TAKE_OUT,
    MachineState.IN_SERVICE: "return",
    MachineState.DRAINING: "drain",
    MachineState.QUARANTINED: "quarantine",
    MachineState.DOWN: "down",
}


@dataclass(frozen=True)
class View:
    """An inventory and the version of its document; every change of it or of one of its machines counts it up."""

    inventory: Inventory
    version: int


def implicit(provider: str) -> Inventory:
    """The inventory of a provider that declares none: one machine that takes everything."""
    return Inventory((Machine(provider, provider, {}),), (Zone(provider),))


def machine_id(provider: str, machine: str) -> str:
    return f"{provider}.{machine}"


class Inventories:
    """Reads and changes inventories; any number of processes at once."""

    def __init__(self, books: Books, clock: Clock, gate: Gate) -> None:
        self._books = books
        self._clock = clock
        self._gate = gate

    def version(self, provider: str) -> int:
        """The version of a provider's inventory; 0 when it declares none."""
        return self._books.store_version(INVENTORIES.name, provider)

    def view(self, provider: str) -> View:
        """The inventory as it is now."""
        loaded = self._books.inventories.find(provider)
        if loaded is None:
            return View(implicit(provider), 0)
        records = self._books.machines.everything(f"machines:{provider}")
        order = [record.value.machine for record in records]
        return View(replace(loaded.value, machines=tuple(order)), loaded.version)

    def loads(self, provider: str) -> Mapping[str, Load]:
        """What was measured last."""
        loaded = self._books.loads.find(provider)
        return {} if loaded is None else loaded.value.machines

    def report_loads(self, provider: str, machines: Mapping[str, Load]) -> None:
        """Keep new measurements in place of the old ones; when two report at once, the later one stays."""
        self._books.again(lambda: self._report_loads(provider, machines))

    def limited(self, provider: str) -> bool:
        """Whether measured load limits what the provider's machines take: then they have to be measured."""
        return self.limits(provider) is not None

    def limits(self, provider: str) -> LoadLimits | None:
        """How much measured load the provider's machines may bear; None where nobody measures."""
        loaded = self._books.inventories.find(provider)
        return None if loaded is None else loaded.value.limits

    def _report_loads(self, provider: str, machines: Mapping[str, Load]) -> None:
        loaded = self._books.loads.find(provider)
        version = 0 if loaded is None else loaded.version
        self._books.commit(LOADS.put(provider, Loads(machines), version))

    def sync(self, provider: str, declared: Inventory) -> bool:
        """Take over what a file or a driver declares, beside what is registered; whether anything changed.

        A machine that stays keeps the state that an operator gave it. One that is not declared any more goes down
        while nodes stand on it, and is forgotten after that.
        """
        return self._books.again(lambda: self._sync(provider, declared))

    def sync_registered(self, provider: str) -> bool:
        """Take over which machines are registered; what else the provider has stays as it is."""
        return self._books.again(lambda: self._sync(provider, without(self.view(provider).inventory)))

    def _sync(self, provider: str, declared: Inventory) -> bool:
        ledger = self.ledger_version()  # first of all: what is reserved after this look makes another one
        known = {one.value.machine.name: one for one in self._books.machines.everything(f"machines:{provider}")}
        loaded = self._books.inventories.find(provider)
        now = self._clock.now()
        declared = checked(joined(declared, registered_at(self._books, provider)))
        found = changes(known_of(loaded, known.values()), declared, self._machines_in_use(provider), now)
        kept = (*(after for _, after in found.changed), *found.downed)
        writes: list[Put | Delete] = [
            *(_machine_put(provider, one, 0) for one in found.added),
            *(_machine_put(provider, one, known[one.name].version) for one in kept),
            *(
                Delete(MACHINES.name, machine_id(provider, one.name), known[one.name].version)
                for one in found.forgotten
            ),
        ]
        if not writes and loaded is not None and loaded.value == found.frame:
            return False
        version = 0 if loaded is None else loaded.version
        self._books.commit(*writes, INVENTORIES.put(provider, found.frame, version), self.ledger_put(ledger))
        return True

    def _machines_in_use(self, provider: str) -> frozenset[str]:
        standing = self._books.environments.everything(f"environments:standing:{provider}")
        return frozenset(node.machine for loaded in standing for node in loaded.value.nodes)

    def set_state(
        self,
        provider: str,
        name: str,
        state: MachineState,
        asking: Asking,
        *,
        seen_empty: bool = False,
        told: bool = False,
    ) -> Machine:
        """Put a machine into another state; NotFound names it, GuardRefused what stands on it.

        `seen_empty`: the provider shows nothing there, and knows better than the books. `told`: it is told although the
        books have it in that state already, since it changes in the cloud. A dry run passes the gate and changes
        nothing.
        """
        check_names(asking)
        return self._books.again(
            lambda: self._set_state(provider, name, state, asking, seen_empty=seen_empty, told=told)
        )

    def _set_state(
        self, provider: str, name: str, state: MachineState, asking: Asking, *, seen_empty: bool, told: bool
    ) -> Machine:
        ledger = self.ledger_version()  # first of all: what is reserved after this look makes another one
        loaded = self._books.machines.find(machine_id(provider, name))
        frame = self._books.inventories.find(provider)
        if loaded is None or frame is None:
            raise NotFound(f"provider {provider} has no machine {name}; `greenroom machines` shows all")
        changed = loaded.value.machine.to(state, self._clock.now(), asking.why)
        if changed is loaded.value.machine:
            if told:
                self._books.commit(events=[self._told(provider, name, state, asking)])
            return changed
        passed = self._pass(provider, name, state, asking, seen_empty=seen_empty)
        if asking.dry_run:
            self._books.commit(events=passed)
            return loaded.value.machine
        self._change(frame, loaded, changed, passed, asking, ledger)
        return changed

    def _change(
        self,
        frame: Loaded[Inventory],
        loaded: Loaded[MachineRecord],
        changed: Machine,
        passed: tuple[Event, ...],
        asking: Asking,
        ledger: int,
        writes: tuple[Put, ...] = (),
        jobs: tuple[JobRequest, ...] = (),
    ) -> None:
        """Write a machine under the ledger as it was before all looks, and tell who changed it and why; `writes` and
        `jobs` go into the same commit.
        """
        provider = loaded.value.provider
        data = {"provider": provider, "machine": changed.name, "who": asking.who, "reason": asking.why}
        told = Event(MACHINE_EVENTS, f"machine.{changed.state}", self._clock.now(), data)
        self._books.commit(
            _machine_put(provider, changed, loaded.version),
            INVENTORIES.put(provider, frame.value, frame.version),
            self.ledger_put(ledger),
            *writes,
            events=[*passed, told],
            jobs=jobs,
        )

    def quarantine(self, provider: str, name: str, asking: Asking) -> bool:
        """Take a suspect machine out until its time is over; whether it was in service, so that this did anything."""

        def out(machine: Machine) -> Machine:
            if machine.state is not MachineState.IN_SERVICE:
                return machine
            return machines_.quarantined(machine, self._clock.now(), asking.why)

        return self._by_itself(provider, name, out, asking)

    def end_quarantines(self, asking: Asking) -> list[str]:
        """Put machines whose time is over back on probation; their ids. One that is being accepted waits for that."""
        due = self._books.machines.due("machines:back", self._clock.now())
        open_ = self._books.acceptances.everything("acceptances_open") if due else []
        judged = {(one.value.provider, one.value.machine) for one in open_}
        return [
            machine_id(provider, name)
            for provider, name in ((one.value.provider, one.value.machine.name) for one in due)
            if (provider, name) not in judged and self._by_itself(provider, name, self._returned, asking)
        ]

    def _returned(self, machine: Machine) -> Machine:
        now = self._clock.now()
        over = machine.back_at is not None and machine.back_at <= now
        return machines_.on_probation(machine, now) if over else machine

    def end_probations(self, provider: str, names: Sequence[str], asking: Asking) -> None:
        """A build succeeded on these machines: whichever was on probation is trusted again."""
        for one in self._books.machines.many([machine_id(provider, name) for name in names]):
            if one.value.machine.probation:
                self._by_itself(provider, one.value.machine.name, machines_.proved, asking)

    def accept(
        self,
        provider: str,
        name: str,
        change: Callable[[Machine], Machine],
        asking: Asking,
        put: Put,
        told: tuple[Event, ...],
    ) -> None:
        """Write what an acceptance makes of its machine, and `put`, the acceptance, with what is `told` of it: both, or
        neither. VersionConflict when somebody else concluded it first.
        """
        ledger = self.ledger_version()
        loaded = self._books.machines.find(machine_id(provider, name))
        frame = self._books.inventories.find(provider)
        if loaded is None or frame is None:
            self._books.commit(put, events=told)
            return
        before, after = loaded.value.machine, change(loaded.value.machine)
        moved = f" into {after.state}" if after.state is not before.state else ""
        told = (self.audit("accept", f"machine {provider}/{name}{moved}", asking), *told)
        if after == before:
            self._books.commit(put, events=told)
        else:
            self._change(frame, loaded, after, told, asking, ledger, (put,))

    def alongside(
        self,
        provider: str,
        name: str,
        change: Callable[[Machine], Machine],
        asking: Asking,
        writes: tuple[Put, ...],
        jobs: tuple[JobRequest, ...] = (),
        told: tuple[Event, ...] = (),
    ) -> None:
        """Write `writes` with what they make of a machine: all, or nothing. A machine that is not there stays so."""
        ledger = self.ledger_version()
        loaded = self._books.machines.find(machine_id(provider, name))
        frame = self._books.inventories.find(provider)
        after = None if loaded is None else change(loaded.value.machine)
        if loaded is None or frame is None or after is None or after == loaded.value.machine:
            self._books.commit(*writes, events=told, jobs=jobs)
        else:
            self._change(frame, loaded, after, told, asking, ledger, writes, jobs)

    def _by_itself(self, provider: str, name: str, change: Callable[[Machine], Machine], asking: Asking) -> bool:
        """Change a machine of the tick's own accord; whether there was anything to change."""

        def once() -> bool:
            ledger = self.ledger_version()
            loaded = self._books.machines.find(machine_id(provider, name))
            frame = self._books.inventories.find(provider)
            if loaded is None or frame is None:
                return False
            changed = change(loaded.value.machine)
            if changed == loaded.value.machine:
                return False
            self._change(frame, loaded, changed, (self._audited(provider, changed, asking),), asking, ledger)
            return True

        return self._books.again(once)

    def _audited(self, provider: str, machine: Machine, asking: Asking) -> Event:
        """It takes nothing away from what stands there, so that no guard is asked; it is told all the same."""
        state = f"{machine.state}, on probation" if machine.probation else str(machine.state)
        return self.audit("quarantine", f"machine {provider}/{machine.name} into {state}", asking)

    def audit(self, act: str, target: str, asking: Asking) -> Event:
        """One line of the audit stream about what no guard is asked of."""
        data = {"target": target, "who": asking.who, "why": asking.why, "dry_run": asking.dry_run, "overridden": {}}
        return Event(AUDIT, f"audit.{act}", self._clock.now(), data)

    def tell_spared(self, provider: str, asking: Asking) -> None:
        """Put into the audit stream that suspect machines stay in service."""
        self._books.commit(events=[self.audit("quarantine", f"nothing more of provider {provider}", asking)])

    def _pass(
        self, provider: str, name: str, state: MachineState, asking: Asking, *, seen_empty: bool
    ) -> tuple[Event, ...]:
        """The gate, where a machine is taken away from what stands on it.

        A quarantine or a drain takes nothing away: what stands there goes on, and a suspect machine must never wait
        for those on it. No guard could refuse it; who did it and why is told all the same.
        """
        if state not in OUT:
            return (self._told(provider, name, state, asking),)
        nodes = () if seen_empty else self._nodes_on(provider, name)
        facts = Facts(who=asking.who, used_by=nodes, now=self._clock.now())
        return self._gate.judge(Act.TAKE_OUT, f"machine {provider}/{name} into {state}", facts, asking).events

    def _told(self, provider: str, name: str, state: MachineState, asking: Asking) -> Event:
        return self.audit(ACTS[state], f"machine {provider}/{name} into {state}", asking)

    def _nodes_on(self, provider: str, name: str) -> list[str]:
        standing = self._books.environments.everything(f"environments:standing:{provider}")
        return [f"{one.value.id}/{node.name}" for one in standing for node in one.value.nodes if node.machine == name]

    def ledger_version(self) -> int:
        return self._books.store_version(LEDGERS.name, PLACEMENT)

    def ledger_put(self, version: int) -> Put:
        """The write that counts the ledger up; VersionConflict when it is not at `version` any more."""
        return LEDGERS.put(PLACEMENT, Ledger(), version)


def registered_at(books: Books, provider: str) -> list[Registered]:
    """The registered machines of a provider."""
    return [one.value for one in books.registered.everything(f"registered:{provider}")]


def known_of(loaded: Loaded[Inventory] | None, machines: Iterable[Loaded[MachineRecord]]) -> Inventory:
    """The inventory of what the books hold; an empty one before the first was declared."""
    frame = Inventory((), ()) if loaded is None else loaded.value
    return replace(frame, machines=tuple(record.value.machine for record in machines))


def _machine_put(provider: str, machine: Machine, version: int) -> Put:
    return MACHINES.put(machine_id(provider, machine.name), MachineRecord(provider, machine), version)
