"""Environments' own names: every one that answers requests is reached at its id, or a name that it took over, below the
base domain.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.domain.environments import Environment
from pipeline.domain.errors import CapacityError, TransientError, UserError
from pipeline.domain.leases import LIVING
from pipeline.domain.serving import backend_of
from pipeline.domain.stagings import OWNER
from pipeline.domain.traffic import Backend
from pipeline.envs.books import Books
from pipeline.envs.telling import tell
from pipeline.ports.routers import Router

log = logging.getLogger(__name__)


@dataclass
class Doors:
    """The leading tick alone. `router` is None where there is no base domain; slots are their stagings' business."""

    books: Books
    router: Router | None
    base_domain: str
    _left_out: frozenset[str] = frozenset()

    def round(self) -> None:
        """Tell the router of environments that came or changed, and of those that are no more."""
        if self.router is None:
            return
        try:
            self._tell(self.router)
        except TransientError as error:
            log.warning("environments' names are told later: %s", error)

    def _tell(self, router: Router) -> None:
        living = [one.value for one in self.books.environments.everything("environments:doors")]
        wanted = {one.id: self._backend(one) for one in living if not _is_slot(one)}
        known = router.known()
        for id in sorted(known.keys() - wanted.keys()):
            self._forget(router, id)
        asked = {id: backend for id, backend in wanted.items() if backend.targets or id in known}
        # who takes a name over comes before who had it: the name leads to one of them at any time
        ordered = sorted(asked.items(), key=lambda one: one[1].host.startswith(one[0]))
        self._left_out = frozenset(id for id, backend in ordered if not self._register(router, known, backend))

    def _register(self, router: Router, known: Mapping[str, Backend], backend: Backend) -> bool:
        """Whether the router has it as it should; that it did not take it is told once."""
        try:
            tell(router, known, backend)
        except (CapacityError, UserError) as error:
            if backend.environment not in self._left_out:
                log.warning("environment %s has no name of its own: %s", backend.environment, error)
            return False
        return True

    def _forget(self, router: Router, id: str) -> None:
        found = self.books.environments.find(id)
        if (found is None or found.value.state not in LIVING) and id not in router.serving():
            router.forget(id)

    def _backend(self, environment: Environment) -> Backend:
        door = environment.door
        assert door is not None  # noqa: S101  # the index has no others
        return backend_of(environment, door, self.base_domain)


def _is_slot(environment: Environment) -> bool:
    return environment.contract is not None and environment.contract.owner.startswith(OWNER)
