"""Environments' own names: every one that answers requests is reached at its id below the base domain."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from pipeline.domain.environments import Environment
from pipeline.domain.errors import CapacityError, TransientError, UserError
from pipeline.domain.leases import LIVING
from pipeline.domain.stagings import OWNER
from pipeline.domain.traffic import Backend, Target
from pipeline.envs.books import Books
from pipeline.ports.routers import Router

log = logging.getLogger(__name__)


@dataclass
class Doors:
    """The leading tick alone. `router` is None where there is no base domain; slots are their stagings' business."""

    books: Books
    router: Router | None
    base_domain: str
    _told: dict[str, Backend] = field(default_factory=dict)
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
        known = set(router.known())
        for id in sorted(known - wanted.keys()):
            self._forget(router, id)
        fresh = [one for id, one in wanted.items() if id not in known or self._told.get(id) != one]
        self._left_out = frozenset(one.environment for one in fresh if not self._register(router, one))

    def _register(self, router: Router, backend: Backend) -> bool:
        """Whether the router took it; that it did not is told once."""
        try:
            router.register(backend)
        except (CapacityError, UserError) as error:
            if backend.environment not in self._left_out:
                log.warning("environment %s has no name of its own: %s", backend.environment, error)
            return False
        self._told[backend.environment] = backend
        return True

    def _forget(self, router: Router, id: str) -> None:
        found = self.books.environments.find(id)
        if (found is None or found.value.state not in LIVING) and id not in router.serving():
            router.forget(id)
            self._told.pop(id, None)

    def _backend(self, environment: Environment) -> Backend:
        door = environment.door
        assert door is not None  # noqa: S101  # the index has no others
        nodes = [node for node in environment.of_role(door.role) if node.address]
        targets = tuple(Target(str(node.address), door.port) for node in nodes)
        return Backend(environment.id, targets, f"{environment.id}.{self.base_domain}", door.path)


def _is_slot(environment: Environment) -> bool:
    return environment.contract is not None and environment.contract.owner.startswith(OWNER)
