"""The time of environments that somebody asked for: extended, held, protected, on whoever's wish."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.domain import leases
from pipeline.domain.environments import Environment
from pipeline.domain.errors import InvalidTransition
from pipeline.envs import events
from pipeline.envs.access import access_of
from pipeline.envs.books import Books
from pipeline.ports.common import Clock
from pipeline.ports.secrets import Secrets
from pipeline.ports.stores import Event
from pipeline.ports.transports import EnvironmentAccess


@dataclass(frozen=True)
class Leases:
    """Any number of processes at once. Errors: NotFound, InvalidTransition, UserError beyond the maximum."""

    books: Books
    secrets: Secrets
    clock: Clock

    def extend(self, environment_id: str, by_s: float) -> Environment:
        """Let it live longer by so many seconds."""
        return self._change(environment_id, "extended", lambda one: leases.extended(one, by_s))

    def hold(self, environment_id: str, for_s: float, reason: str) -> Environment:
        """Keep it for so many seconds at least, also from whoever else needs its room."""
        return self._change(environment_id, "held", lambda one: leases.kept(one, for_s, self.clock.now(), reason))

    def protect(self, environment_id: str, reason: str) -> Environment:
        """Let nothing but its owner end it, for a reason; an empty one lifts that."""
        what = "protected" if reason else "unprotected"
        return self._change(environment_id, what, lambda one: leases.protect(one, reason))

    def give_access(self, environment_id: str) -> EnvironmentAccess:
        """The way to its nodes, with their key; that it was given away is told in its history."""
        environment = self.books.environments.get(environment_id).value
        if environment.warm is not None and environment.contract is None:  # whoever gets it shares it with nobody
            raise InvalidTransition(
                f"environment {environment_id} belongs to warm pool {environment.warm.pool}: ask for it"
            )
        access = access_of(environment, self.secrets)
        self.books.commit(events=[Event(environment_id, "access.given", self.clock.now(), {})])
        return access

    def _change(self, id: str, what: str, change: Callable[[Environment], Environment]) -> Environment:
        def decide() -> Environment:
            loaded, now = self.books.environments.get(id), self.clock.now()
            changed = change(loaded.value)
            put = self.books.environments.kind.put(id, changed, loaded.version)
            data = {"environment": id, "ends_at": changed.ends_at, "protected": changed.protected}
            told = [Event(id, f"lease.{what}", now, data), *events.of_environment(loaded.value, changed, now)]
            self.books.commit(put, events=told)
            return changed

        return self.books.again(decide)
