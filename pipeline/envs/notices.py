"""Notices: an environment is told through the gate that it goes; when its time is over, `stages` takes it back."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.domain import guards
from pipeline.domain.environments import Environment
from pipeline.domain.guards import Act, Refused
from pipeline.envs import events
from pipeline.envs.books import Books, Loaded
from pipeline.envs.gate import Asking, Gate
from pipeline.ports.stores import Event, Put


@dataclass(frozen=True)
class Given:
    """What must be written so that a notice is given."""

    put: Put
    events: tuple[Event, ...]


class Notices:
    """Any number of processes at once."""

    def __init__(self, books: Books, gate: Gate) -> None:
        self._books = books
        self._gate = gate

    def may_be_given(self, environment: Environment, asking: Asking) -> bool:
        """Whether no guard would refuse; asked in silence."""
        facts = self._gate.facts_of(environment, asking)
        return not isinstance(guards.judge(Act.PREEMPT, facts), Refused)

    def give(self, loaded: Loaded[Environment], told: Environment, asking: Asking, now: float) -> Given:
        """Let an environment become what it is once it was `told`; GuardRefused when a guard lets it stay.

        It counts against the budget only when it is carried out.
        """
        facts = self._gate.facts_of(loaded.value, asking)
        passed = self._gate.judge(Act.PREEMPT, told.id, facts, asking)
        put = self._books.environments.kind.put(told.id, told, loaded.version)
        return Given(put, (*passed.events, *events.of_environment(loaded.value, told, now)))
