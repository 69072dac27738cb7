"""The in-memory twins of every cloud: they show what they were given, and change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pipeline.domain.cloud_acts import CloudObject, ObjectKind, the_one
from pipeline.domain.cloud_setups import CloudSetup, Found, Part, Piece
from pipeline.domain.drift import Server
from pipeline.domain.errors import InfraError, UserError
from pipeline.domain.leftovers import Thing
from pipeline.domain.moving_off import How, Trial
from pipeline.ports.clouds import Sight
from pipeline.ports.common import Secret


@dataclass
class _Twin:
    """`fail`: errors to raise, one a call."""

    fail: list[InfraError] = field(default_factory=list, kw_only=True)

    def close(self) -> None:
        """Nothing is kept open."""

    def _answer(self) -> None:
        if self.fail:
            raise self.fail.pop(0)


@dataclass
class MemorySky(_Twin):
    """`Cloud` whose sight is set by hand."""

    sight: Sight = field(default_factory=Sight)
    there: list[Thing] = field(default_factory=list)

    def look(self) -> Sight:
        self._answer()
        return self.sight

    def things(self) -> Sequence[Thing]:
        self._answer()
        return tuple(self.there)


@dataclass
class MemoryEstate(_Twin):
    """`Estate` of objects by their ids, with the users of each.

    `stuck`: why a server does not move, by its id. `dead`: machines that count as dead. A server that is told to move
    is under way for one look, and then on the first other machine that is in service.
    """

    objects: dict[str, CloudObject] = field(default_factory=dict)
    used_by: dict[str, list[str]] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    servers: dict[str, Server] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    trials: dict[str, Trial] = field(default_factory=dict)
    told: list[tuple[str, How]] = field(default_factory=list)
    _ends: dict[str, Server] = field(default_factory=dict)

    def find(self, kind: ObjectKind, name: str) -> CloudObject:
        self._answer()
        found = [one for one in self.objects.values() if one.kind is kind and name in {one.id, one.name}]
        return the_one(kind, name, found)

    def users(self, one: CloudObject) -> Sequence[str]:
        self._answer()
        on_it = [f"server {server.name} ({server.id}) of project {server.project}" for server in self._on(one)]
        return (*self.used_by.get(one.id, ()), *on_it)

    def delete(self, one: CloudObject) -> None:
        self._answer()
        self.objects.pop(one.id, None)

    def stands(self, one: CloudObject) -> bool:
        self._answer()
        return one.id in self.objects

    def in_service(self, machine: CloudObject) -> bool:
        self._answer()
        return machine.id not in self.out

    def set_service(self, machine: CloudObject, *, on: bool, reason: str) -> None:
        self._answer()
        if on:
            self.out.pop(machine.id, None)
            self.dead.discard(machine.id)
        else:
            self.out[machine.id] = reason

    def alive(self, machine: CloudObject) -> bool:
        self._answer()
        return machine.id not in self.dead

    def count_as_dead(self, machine: CloudObject) -> None:
        self._answer()
        self.dead.add(machine.id)

    def servers_on(self, machine: CloudObject) -> Sequence[Server]:
        self._answer()
        return tuple(self._on(machine))

    def server(self, id: str) -> Server | None:
        self._answer()
        found = self.servers.get(id)
        if id in self._ends:
            self.servers[id] = self._ends.pop(id)
        return found

    def move(self, id: str, how: How) -> None:
        self._answer()
        self.told.append((id, how))
        server, fault = self.servers[id], self.stuck.get(id, "")
        self.trials[id] = Trial(f"trial-{len(self.told)}", over=True, fault=fault)
        if fault:
            return
        others = [one for one in self.objects.values() if one.kind is ObjectKind.MACHINE and one.name != server.machine]
        to = next((one.name for one in others if one.id not in self.out), "")
        if not to:
            self.trials[id] = replace(self.trials[id], fault="No valid host was found.")
            return
        cold = how is How.COLD
        self._ends[id] = replace(server, machine=to, status="verify_resize" if cold else "active")
        self.servers[id] = replace(server, status="resize" if cold else "migrating")

    def confirm(self, id: str) -> None:
        self._answer()
        self.servers[id] = replace(self.servers[id], status="shutoff")

    def last_trial(self, id: str) -> Trial | None:
        self._answer()
        return self.trials.get(id)

    def _on(self, machine: CloudObject) -> list[Server]:
        is_machine = machine.kind is ObjectKind.MACHINE
        return [one for one in self.servers.values() if is_machine and one.machine == machine.name]


@dataclass
class MemoryGrounds(_Twin):
    """`Grounds` of pieces by the names of setups. `deaf`: makes nothing of it. `outside`: its external networks."""

    pieces: dict[str, dict[Part, Piece]] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    deaf: set[Part] = field(default_factory=set)
    outside: set[str] = field(default_factory=lambda: {"outside"})

    def find(self, setup: CloudSetup) -> Found:
        self._answer()
        return dict(self.pieces.get(setup.name, {}))

    def check(self, setup: CloudSetup) -> None:
        self._answer()
        if setup.external_network not in self.outside:
            raise UserError(f"there is no external network {setup.external_network!r}: name another")

    def make(self, part: Part, setup: CloudSetup, found: Found, secret: Secret) -> None:  # noqa: ARG002  # by name
        self._answer()
        if part in self.deaf:
            return
        piece = _piece(part, setup)
        self.pieces.setdefault(setup.name, {})[part] = piece
        if part is Part.CREDENTIAL:
            self.secrets[piece.id] = secret

    def entry(self, found: Found) -> Mapping[str, str]:
        return {"auth_url": "http://cloud.test/v3", "application_credential_id": found[Part.CREDENTIAL].id}


def _piece(part: Part, setup: CloudSetup) -> Piece:
    id = f"{setup.name}-{part}"
    made = {
        Part.QUOTA: Piece(id, limits=setup.limits),
        Part.SUBNET: Piece(id, cidr=setup.cidr),
        Part.ROUTER: Piece(id, leads_to=setup.external_network),
        Part.CREDENTIAL: Piece(f"{id}-{setup.id}", made_by=setup.id, ruled=setup.access_rules),
    }
    return made.get(part, Piece(id))
