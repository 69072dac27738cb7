"""Hands on machines that exist only as entries, with knobs for what machines do wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.domain.errors import InvalidTransition, PermanentError, TransientError
from pipeline.domain.registered import Registered, lease_of
from pipeline.ports.machines import Marks


@dataclass
class MemoryMachines:
    """What the machines have, by name. Knobs:

    `dead` and `refusing`: why a machine does not answer, or does not let the service in. `spoiled`: why its reset
    fails; the reset `stuck` always does. `host_keys`: what addresses show. `keys` are those that a lease brought,
    `marks` what each says of itself, `resets` how often each was reset.
    """

    dead: dict[str, str] = field(default_factory=dict)
    refusing: dict[str, str] = field(default_factory=dict)
    spoiled: dict[str, str] = field(default_factory=dict)
    host_keys: dict[str, str] = field(default_factory=dict)
    keys: dict[str, tuple[str, ...]] = field(default_factory=dict)
    marks: dict[str, Marks] = field(default_factory=dict)
    resets: dict[str, int] = field(default_factory=dict)


class MemoryHands:
    """The twin of `SshHands`."""

    def __init__(self, machines: MemoryMachines, deployment: str) -> None:
        self._machines = machines
        self._deployment = deployment

    def key(self) -> str:
        return "ssh-ed25519 AAAAMEMORY greenroom"

    def shown_host_key(self, address: str, port: int) -> str:
        if address not in self._machines.host_keys:
            raise TransientError(f"{address}:{port} does not answer SSH: nobody is there")
        return self._machines.host_keys[address]

    def greet(self, machines: Sequence[Registered]) -> Mapping[str, str]:
        reasons = {**self._machines.dead, **self._machines.refusing}
        return {one.name: reasons[one.name] for one in machines if one.name in reasons}

    def look(self, machine: Registered) -> Marks:
        self._reach(machine)
        return self._machines.marks.get(machine.name, Marks())

    def hand_over(self, machine: Registered, keys: Sequence[str]) -> None:
        self.mark(machine)
        self._machines.keys[machine.name] = tuple(keys)

    def mark(self, machine: Registered) -> None:
        lease, marks = lease_of(machine), self._act(machine)
        leased = replace(marks, environment=lease.environment, node=lease.node, ends_at=lease.ends_at)
        self._machines.marks[machine.name] = leased

    def take_back(self, machine: Registered) -> None:
        self._machines.marks[machine.name] = self._act(machine)
        self._machines.keys[machine.name] = ()

    def reset(self, machine: Registered) -> None:
        self._reach(machine)
        self._machines.resets[machine.name] = self._machines.resets.get(machine.name, 0) + 1
        spoiled = self._machines.spoiled
        if machine.name in spoiled or machine.reset == "stuck":
            raise PermanentError(f"`{machine.reset}` ended with 1: {spoiled.get(machine.name, 'it is stuck')}")

    def forget(self, machine: Registered) -> None:
        self._act(machine)
        self._machines.marks.pop(machine.name, None)

    def _act(self, machine: Registered) -> Marks:
        self._reach(machine)
        heard = self._machines.marks.get(machine.name, Marks()).turn
        if heard > machine.turn:
            raise InvalidTransition(f"machine {machine.name} heard of a later turn than {machine.turn}")
        return Marks(self._deployment, machine.turn)

    def _reach(self, machine: Registered) -> None:
        if machine.name in self._machines.refusing:
            why = self._machines.refusing[machine.name]
            raise PermanentError(f"machine {machine.name} refuses SSH: {why}")
        if machine.name in self._machines.dead:
            raise TransientError(f"machine {machine.name} does not answer SSH: {self._machines.dead[machine.name]}")
