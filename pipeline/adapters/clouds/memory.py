"""The in-memory twins of every cloud: they show what they were given, and change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.domain.cloud_acts import CloudObject, ObjectKind, the_one
from pipeline.domain.cloud_setups import CloudSetup, Found, Part, Piece
from pipeline.domain.errors import InfraError
from pipeline.domain.leftovers import Thing
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
    """`Estate` of objects by their ids, with the users of each."""

    objects: dict[str, CloudObject] = field(default_factory=dict)
    used_by: dict[str, list[str]] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)

    def find(self, kind: ObjectKind, name: str) -> CloudObject:
        self._answer()
        found = [one for one in self.objects.values() if one.kind is kind and name in {one.id, one.name}]
        return the_one(kind, name, found)

    def users(self, one: CloudObject) -> Sequence[str]:
        self._answer()
        return tuple(self.used_by.get(one.id, ()))

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
        else:
            self.out[machine.id] = reason


@dataclass
class MemoryGrounds(_Twin):
    """`Grounds` of pieces by the names of setups. `deaf`: makes nothing of it."""

    pieces: dict[str, dict[Part, Piece]] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    deaf: set[Part] = field(default_factory=set)

    def find(self, setup: CloudSetup) -> Found:
        self._answer()
        return dict(self.pieces.get(setup.name, {}))

    def make(self, part: Part, setup: CloudSetup, found: Found, secret: Secret) -> None:  # noqa: ARG002  # by name
        self._answer()
        if part in self.deaf:
            return
        of_credential = part is Part.CREDENTIAL
        id = f"{setup.name}-{part}" + (f"-{setup.id}" if of_credential else "")
        piece = Piece(id, limits=setup.limits if part is Part.QUOTA else {}, made_by=setup.id if of_credential else "")
        self.pieces.setdefault(setup.name, {})[part] = piece
        if of_credential:
            self.secrets[id] = secret

    def entry(self, found: Found) -> Mapping[str, str]:
        return {"auth_url": "http://cloud.test/v3", "application_credential_id": found[Part.CREDENTIAL].id}
