"""Where an environment or a staging is reached: its name in the router, or why it has none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pipeline.domain.environments import Environment
from pipeline.domain.errors import CapacityError, InvalidTransition, NotFound
from pipeline.domain.leases import LIVING
from pipeline.domain.serving import backend_of
from pipeline.domain.stagings import answers_at
from pipeline.domain.traffic import Door
from pipeline.envs.books import Books
from pipeline.ports.routers import Router


@dataclass(frozen=True)
class Address:
    """`up` of its `targets` answer the router's health checks; 0 of 0: the host leads nowhere now. `ip`: what a DNS
    record of the host has to name; empty: every host leads to where the router listens.
    """

    host: str
    url: str
    ip: str
    up: int
    targets: int


@dataclass(frozen=True)
class Addresses:
    """Any number of processes at once. `url_of` makes a URL of a host and the port at which its nodes answer."""

    books: Books
    router: Router | None
    base_domain: str
    url_of: Callable[[str, int], str]

    def of(self, environment_id: str) -> Address:
        """Errors: NotFound (no router, no role that answers requests), InvalidTransition (not in use), CapacityError
        (the router does not have it), TransientError (the router does not answer).
        """
        environment = self.books.environments.get(environment_id).value
        router, door = self._router(environment), _door(environment)
        if environment.state not in LIVING:
            raise InvalidTransition(
                f"environment {environment_id} is {environment.state}: it has an address while it is leased or held"
            )
        host = backend_of(environment, door, self.base_domain).host
        try:
            seen = router.reading(environment_id)
        except NotFound as error:
            raise CapacityError(
                f"environment {environment_id} has no address yet: {router.name} does not know it; try again in some "
                "seconds, and if it stays so, the router is full: the log of the tick says it, and `router.backends` "
                "in the settings allows more"
            ) from error
        up, targets = (seen.up, seen.targets) if router.leads(host) else (0, 0)
        return Address(host, self.url_of(host, door.port), router.address_of(host), up, targets)

    def of_staging(self, name: str) -> Address:
        """The same of a staging, with what answers of its live slot. NotFound (no such staging, no router),
        TransientError.
        """
        staging = self.books.stagings.get(name).value
        if self.router is None:
            raise NotFound(f"staging {name} has no address: this deployment has no router; set `base_domain`")
        host, port = staging.spec.domain, staging.spec.port
        up = targets = 0
        if staging.live is not None:
            seen = self.router.reading(staging.slot(staging.live).environment)
            up, targets, port = seen.up, seen.targets, answers_at(staging, staging.live)[0].port
        return Address(host, self.url_of(host, port), self.router.address_of(host), up, targets)

    def _router(self, environment: Environment) -> Router:
        if self.router is None:
            raise NotFound(
                f"environment {environment.id} has no address: this deployment has no router; set `base_domain` in its "
                "settings, or reach the nodes by the addresses that `greenroom env show` tells"
            )
        return self.router


def _door(environment: Environment) -> Door:
    if environment.door is None:
        raise NotFound(
            f"environment {environment.id} has no address: its blueprint does not say where it answers requests; give "
            'its first deploy a `ready: {http: ":8080/health"}`, or `open` a TCP port of a role, and ask for another'
        )
    return environment.door
