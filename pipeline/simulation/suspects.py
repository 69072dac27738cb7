"""Whose fault failed builds are, by the rules of production; what follows of it is the caller's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.domain import suspicion
from pipeline.domain.inventory import Inventory, MachineState
from pipeline.domain.suspicion import MOST, Build, History, Sentence


@dataclass(frozen=True)
class Verdict:
    """Whom to quarantine, and why builds of what failed just now can succeed nowhere; empty when they may."""

    sentence: Sentence
    poison: str


class Suspects:
    """The history of all builds."""

    def __init__(self) -> None:
        self._history = History()
        self._new: list[Build] = []

    def succeeded(self, builds: Sequence[Build], now: float) -> None:
        """All nodes of an environment were built; written down together, as most days nobody asks."""
        self._new += builds
        if len(self._new) > MOST:
            self._write_down(now)

    def failed(self, builds: Sequence[Build], inventory: Inventory, now: float) -> Verdict:
        """The builds of an environment that failed, one of each machine."""
        self._new += builds
        self._write_down(now)
        judgement = suspicion.judge(self._history, now)
        machines = inventory.machines
        in_service = {one.name: one.zone for one in machines if one.state is MachineState.IN_SERVICE}
        probation = {one.name for one in machines if one.probation}
        out = sum(1 for one in machines if one.back_at is not None)
        sentence = suspicion.sentence(judgement, builds, in_service, probation, out)
        self._history = suspicion.forgive(self._history, sentence.machines)
        poisons = (judgement.poison(one.image, one.service) for one in builds)
        return Verdict(sentence, next((poison for poison in poisons if poison), ""))

    def _write_down(self, now: float) -> None:
        self._history = suspicion.remember(self._history, self._new, now)
        self._new = []
