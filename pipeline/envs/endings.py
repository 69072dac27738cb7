"""The end of environments whose end has begun: destroyed, then seen to be gone; never given up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from pipeline.domain import failsafe
from pipeline.domain.environments import Environment, destroyed
from pipeline.domain.errors import InfraError
from pipeline.domain.failsafe import Hold, OpenBreaker, RetryAt, WaitForCapacity
from pipeline.envs.books import Loaded
from pipeline.envs.providers import Provider
from pipeline.envs.removals import Removals, still_there
from pipeline.envs.steps import Fault, Steps, fault_of
from pipeline.ports.common import Clock, Ids
from pipeline.ports.drivers import Listing
from pipeline.ports.stores import Event

log = logging.getLogger(__name__)


class Endings:
    """Ends environments; any number of processes at once."""

    def __init__(
        self, steps: Steps, providers: Callable[[str], Provider], removals: Removals, clock: Clock, ids: Ids
    ) -> None:
        self._steps = steps
        self._provider = providers
        self._removals = removals
        self._clock = clock
        self._ids = ids

    def end(self, loaded: Loaded[Environment]) -> Environment:
        """Do what an end that has begun asks for, once; the environment as it is now."""
        provider = self._provider(loaded.value.provider)
        fault = self._carry_out(provider, loaded.value)
        return self._conclude(loaded, fault, _listed(provider) if fault is None else Listing())

    def end_many(self, provider_name: str, going: Sequence[Loaded[Environment]]) -> list[Callable[[], Environment]]:
        """Destroy all of them, then look once; what is left to do is to conclude each for itself."""
        provider = self._provider(provider_name)
        faults = [self._carry_out(provider, loaded.value) for loaded in going]
        seen = _listed(provider)
        return [partial(self._conclude, one, fault, seen) for one, fault in zip(going, faults, strict=True)]

    def _carry_out(self, provider: Provider, environment: Environment) -> Fault | None:
        """Destroy an environment whose end has begun, unless only the look is missing; what went wrong, if anything."""
        if environment.removed:
            return None
        unclosed = fault_of(lambda: provider.transport.close(environment.id))
        if unclosed is not None:
            log.warning("environment %s: its connections could not be ended: %s", environment.id, unclosed)
        return fault_of(lambda: self._removals.carry_out(provider.driver, environment))

    def _conclude(self, loaded: Loaded[Environment], fault: Fault | None, seen: Listing | Fault) -> Environment:
        """It is destroyed when it is seen to be gone; what could not be seen is not gone."""
        if fault is not None:
            return self._destroy_later(loaded, fault)
        if not isinstance(seen, Listing):
            return self._destroy_later(loaded, seen, removed=True)
        look = self._removals.look(loaded.value, seen)
        if look.still:
            return self._destroy_later(loaded, still_there(loaded.value.id, look.still), (look.event,))
        return self._steps.save(loaded, destroyed(loaded.value, self._clock.now()), told=(look.event,)).value

    def _destroy_later(
        self, loaded: Loaded[Environment], error: Fault, told: tuple[Event, ...] = (), *, removed: bool = False
    ) -> Environment:
        """Taking back is never given up: servers that may exist stay counted until they are seen to be gone."""
        tries, now = loaded.value.faults_seen + 1, self._clock.now()
        environment = replace(loaded.value, removed=removed)
        log.warning("environment %s: not gone after %d tries: %s", environment.id, tries, error)
        match failsafe.decide(error, tries, now, self._ids.dice(), taking_back=True):
            case OpenBreaker(at=at):
                later = replace(environment, not_before=at)
            case RetryAt(at=at) | WaitForCapacity(at=at) | Hold(at=at):
                fault = environment.fault or str(error)  # the first one is why it goes
                later = replace(environment, not_before=at, faults_seen=tries, fault=fault)
        return self._steps.save(loaded, later, told=told).value


def _listed(provider: Provider) -> Listing | Fault:
    """All that the provider has of ours, or why it cannot be seen."""
    try:
        return provider.driver.list()
    except InfraError as error:
        return error
