"""Verdicts of acceptances: when its run is over and its nodes are gone, what became of it decides on the machine."""

from __future__ import annotations

from pipeline.domain import acceptances as rules
from pipeline.domain.acceptances import Acceptance
from pipeline.domain.reports import CaseStatus
from pipeline.domain.runs import Run, RunState
from pipeline.envs import events
from pipeline.envs.books import ACCEPTANCES, Books, Loaded
from pipeline.envs.gate import TICK, Asking
from pipeline.envs.inventories import Inventories
from pipeline.ports.common import Clock

BAD = frozenset({CaseStatus.FAILED, CaseStatus.ERROR})


class Verdicts:
    """The leading tick's."""

    def __init__(self, books: Books, inventories: Inventories, clock: Clock) -> None:
        self._books = books
        self._inventories = inventories
        self._clock = clock

    def due(self) -> list[str]:
        """Acceptances whose run is over or forgotten, and whose nodes are gone."""
        found = self._books.acceptances.everything("acceptances_open")
        return [one.value.id for one in found if self._is_over(one.value)]

    def _is_over(self, acceptance: Acceptance) -> bool:
        run = self._books.runs.find(acceptance.run)
        if run is None:
            return True
        if run.value.state is not RunState.FINISHED:
            return False
        environment = self._books.environments.find(run.value.environment_id) if run.value.environment_id else None
        return environment is None or environment.value.final

    def conclude(self, acceptance_id: str) -> None:
        """Write the verdict, and what follows for the machine, in one write; once more changes nothing."""
        self._books.again(lambda: self._conclude(acceptance_id))

    def _conclude(self, acceptance_id: str) -> None:
        loaded = self._books.acceptances.get(acceptance_id)
        if loaded.value.open and self._is_over(loaded.value):
            self._decide(loaded)

    def _decide(self, loaded: Loaded[Acceptance]) -> None:
        now = self._clock.now()
        found = self._books.runs.find(loaded.value.run)
        done = rules.lost(loaded.value, now) if found is None else self._concluded(loaded.value, found.value, now)
        put = ACCEPTANCES.put(done.id, done, loaded.version)
        self._inventories.accept(
            done.provider,
            done.machine,
            lambda machine: rules.decided(done, machine, now),
            Asking(TICK, done.summary),
            put,
            events.of_acceptance(done, now),
        )

    def _concluded(self, acceptance: Acceptance, run: Run, now: float) -> Acceptance:
        environment = self._books.environments.find(run.environment_id) if run.environment_id else None
        delivered = None if environment is None else environment.value
        return rules.concluded(acceptance, run, delivered, now, self._failed_tests(run.id))

    def _failed_tests(self, run_id: str) -> list[str]:
        reports = self._books.reports.in_index(f"reports:{run_id}")
        return [case.name for one in reports for case in one.value.cases if case.status in BAD]
