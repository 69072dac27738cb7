"""One step of an environment: what may go wrong with it, and the write that says what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.errors import GuardRefused, InfraError
from pipeline.envs import events, jobs
from pipeline.envs.books import Books, Loaded
from pipeline.ports.common import Clock
from pipeline.ports.drivers import NodeView
from pipeline.ports.stores import Event, Put

Fault = InfraError | GuardRefused
#: The nodes that a provider shows, or why it shows none.
Shown = Sequence[NodeView] | InfraError


@dataclass(frozen=True)
class Steps:
    """Writes steps; any number of processes at once."""

    books: Books
    clock: Clock

    def save(
        self,
        loaded: Loaded[Environment],
        environment: Environment,
        *,
        told: Sequence[Event] = (),
        writes: tuple[Put, ...] = (),
    ) -> Loaded[Environment]:
        """Write it with its events, after those that were `told` already; `writes` go with it."""
        write = self.books.environments.kind.put(environment.id, environment, loaded.version)
        change = events.of_environment(loaded.value, environment, self.clock.now())
        after = [jobs.ADMIT] if environment.final or environment.state is EnvironmentState.REQUESTED else []
        self.books.commit(write, *writes, events=[*told, *change], jobs=after)
        return Loaded(environment, loaded.version + 1)


def fault_of(act: Callable[[], None]) -> Fault | None:
    """What went wrong, if anything."""
    try:
        act()
    except (InfraError, GuardRefused) as error:
        return error
    return None
