"""The in-memory twins of every cloud: they show what they were given, and change it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.domain.cloud_acts import CloudObject, ObjectKind, the_one
from pipeline.domain.errors import InfraError
from pipeline.domain.leftovers import Thing
from pipeline.ports.clouds import Sight


@dataclass
class MemorySky:
    """`Cloud` whose sight is set by hand. `fail`: errors to raise, one a call."""

    sight: Sight = field(default_factory=Sight)
    there: list[Thing] = field(default_factory=list)
    fail: list[InfraError] = field(default_factory=list)

    def look(self) -> Sight:
        self._answer()
        return self.sight

    def things(self) -> Sequence[Thing]:
        self._answer()
        return tuple(self.there)

    def close(self) -> None:
        """Nothing is kept open."""

    def _answer(self) -> None:
        if self.fail:
            raise self.fail.pop(0)


@dataclass
class MemoryEstate:
    """`Estate` of objects by their ids, with the users of each. `fail`: errors to raise, one a call."""

    objects: dict[str, CloudObject] = field(default_factory=dict)
    used_by: dict[str, list[str]] = field(default_factory=dict)
    out: dict[str, str] = field(default_factory=dict)
    fail: list[InfraError] = field(default_factory=list)

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

    def close(self) -> None:
        """Nothing is kept open."""

    def _answer(self) -> None:
        if self.fail:
            raise self.fail.pop(0)
