"""Relief: machines above their drain limit give best-effort environments back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from pipeline.domain import preemption
from pipeline.domain.environments import Environment, Notice
from pipeline.domain.errors import GuardRefused, VersionConflict
from pipeline.domain.inventory import LoadLimits
from pipeline.domain.overload import TakeBack, relieving
from pipeline.envs.books import Books, Loaded
from pipeline.envs.gate import TICK, Asking, Gate
from pipeline.envs.inventories import Inventories
from pipeline.envs.notices import Notices
from pipeline.ports.common import Clock

log = logging.getLogger(__name__)
#: Environments that went last: their load shows in measurements from before they did.
LATELY = 500


class Relief:
    """The leading tick calls this."""

    def __init__(
        self, books: Books, inventories: Inventories, gate: Gate, clock: Clock, grace_s: float = preemption.GRACE_S
    ) -> None:
        self._books = books
        self._inventories = inventories
        self._notices = Notices(books, gate)
        self._clock = clock
        self._grace_s = grace_s

    def relieve(self, provider: str) -> list[str]:
        """Tell environments to go where measured load is above the drain limit; those that were told."""
        limits = self._inventories.limits(provider)
        if limits is None or not self._is_loaded(provider, limits):
            return []
        standing = {one.value.id: one for one in self._books.environments.everything(_standing(provider))}
        found = relieving(
            self._inventories.view(provider).inventory,
            self._inventories.loads(provider),
            (one.value for one in standing.values()),
            self._clock.now(),
            self._left_at(provider),
        )
        return [one.environment for one in found if self._tell(standing[one.environment], one)]

    def _is_loaded(self, provider: str, limits: LoadLimits) -> bool:
        """Whether any machine is above a limit at all; only then are the environments worth reading."""
        loads = self._inventories.loads(provider).values()
        return any(load.used.get(dimension, 0.0) > limit for load in loads for dimension, limit in limits.drain.items())

    def _left_at(self, provider: str) -> Mapping[str, float]:
        """When something last went from each machine."""
        gone = self._books.environments.in_index("environments:final", limit=LATELY, newest_first=True)
        left: dict[str, float] = {}
        for environment in (loaded.value for loaded in gone if loaded.value.provider == provider):
            for node in environment.nodes:
                left[node.machine] = max(environment.state_since, left.get(node.machine, 0.0))
        return left

    def _tell(self, loaded: Loaded[Environment], wanted: TakeBack) -> bool:
        """Give notice through the gate; False when a guard refuses, or something changed meanwhile."""
        now, asking = self._clock.now(), Asking(TICK, wanted.reason, again=True)
        told = replace(loaded.value, notice=Notice(now + self._grace_s, "", wanted.reason))
        try:
            given = self._notices.give(loaded, told, asking, now)
            self._books.commit(given.put, events=given.events)
        except (GuardRefused, VersionConflict) as error:
            log.warning("environment %s: stays for now: %s", told.id, error)
            return False
        return True


def _standing(provider: str) -> str:
    return f"environments:standing:{provider}"
