"""Counts of a provider's machines, for whoever watches them: by state, by what is promised, by measured load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.domain.inventory import MachineState
from pipeline.envs.books import Books
from pipeline.envs.fleets import Fleets
from pipeline.envs.inventories import Inventories
from pipeline.ports.common import Clock


@dataclass(frozen=True)
class Census:
    """`promised`: the share of what is usable, by dimension. `by_load` is empty where no load limits anything."""

    states: Mapping[MachineState, int]
    promised: Mapping[str, float]
    by_load: Mapping[str, int]


class Censuses:
    """Counts on a picture that is kept: only what changed is read again. One thread at a time may ask."""

    def __init__(self, books: Books, inventories: Inventories, clock: Clock) -> None:
        self._fleets = Fleets(books, inventories)
        self._clock = clock

    def of(self, provider: str) -> Census:
        now = self._clock.now()
        fleet = self._fleets.current(provider, now).fleet
        counts = Counter(machine.state for machine in fleet.machines)
        return Census({state: counts[state] for state in MachineState}, fleet.utilisation(), fleet.by_load(now))
