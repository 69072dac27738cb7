"""The gate: collects the facts, asks the guards, and tells the audit stream who did what and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.domain import guards
from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, UserError
from pipeline.domain.guards import Act, Facts, Refused
from pipeline.envs.books import Books
from pipeline.ports.common import Clock
from pipeline.ports.stores import Document, Event, Put

#: The subject of everything that passed or was refused.
AUDIT = "audit"
#: Who asks when nobody does.
TICK = "tick"
#: Acts of the tick's own accord that one provider allows in an interval, and its length in seconds.
BUDGET = 60
INTERVAL_S = 60.0


@dataclass(frozen=True)
class Asking:
    """Who wants an act, and why; `overrides` maps guards to an operator's reasons. A dry run changes nothing."""

    who: str
    why: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False


class Gate:
    """Any number of processes at once."""

    def __init__(self, books: Books, clock: Clock) -> None:
        self._books = books
        self._clock = clock

    def facts_of(self, environment: Environment, asking: Asking, *, given_back: bool = False) -> Facts:
        """What the books know of an environment."""
        held = environment.state is EnvironmentState.HELD
        return Facts(
            who=asking.who,
            owner=environment.owner,
            protected=environment.protected,
            held_until=environment.ends_at if held else 0.0,
            given_back=given_back,
            now=self._clock.now(),
        )

    def judge(self, act: Act, target: str, facts: Facts, asking: Asking) -> tuple[Event, ...]:
        """The audit event of an act that is allowed, to be written with it; GuardRefused, told as well, else."""
        unknown = set(asking.overrides) - {guard.name for guard in guards.GUARDS}
        if unknown:
            known = ", ".join(guard.name for guard in guards.GUARDS)
            raise UserError(f"there is no guard {', '.join(sorted(unknown))}; there are: {known}")
        answer = guards.judge(act, facts, asking.overrides)
        if isinstance(answer, Refused):
            refusal = {"refused": answer.guard, "because": answer.why}
            self._books.commit(events=[self._event(act, target, asking, refusal)])
            raise GuardRefused(answer.guard, f"{act} of {target}: {answer.why}", answer.remedy)
        return (self._event(act, target, asking, {"overridden": dict(answer.overridden)}),)

    def _event(self, act: Act, target: str, asking: Asking, more: Mapping[str, object]) -> Event:
        data = {"target": target, "who": asking.who, "why": asking.why, "dry_run": asking.dry_run, **more}
        return Event(AUDIT, f"audit.{act}", self._clock.now(), data)

    def pass_(self, act: Act, target: str, facts: Facts, asking: Asking) -> None:
        """Judge, and tell at once: for acts that write nothing themselves."""
        self._books.commit(events=self.judge(act, target, facts, asking))

    def spent(self, provider: str) -> int:
        """Acts of the tick's own accord at a provider in this interval."""
        return len(self._lately(self._books.store.get("budget", provider)))

    def spend(self, provider: str) -> None:
        """Count one act of the tick's own accord against its provider's budget."""
        self._books.again(lambda: self._spend(provider))

    def _spend(self, provider: str) -> None:
        document = self._books.store.get("budget", provider)
        times = [*self._lately(document), self._clock.now()]
        version = document.version if document else 0
        self._books.commit(Put("budget", provider, version, {"times": times}, ttl_s=int(2 * INTERVAL_S)))

    def _lately(self, document: Document | None) -> list[float]:
        now = self._clock.now()
        return [at for at in (document.body["times"] if document else []) if now - at < INTERVAL_S]
