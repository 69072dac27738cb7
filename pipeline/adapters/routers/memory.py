"""The in-memory twin of routers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from pipeline.domain.errors import CapacityError, InvalidTransition, NotFound, TransientError
from pipeline.domain.traffic import Backend, Reading, Target, checked_backend, checked_host


@dataclass
class MemoryRouter:
    """`Router` that counts what it is told to count.

    Knobs: `live` are environments that it serves beside those switched to; `down` makes every call raise
    TransientError, `fails` the next so many; `sick` are targets that are not up; `traffic` are sessions, answers and
    errors of environments; `addresses` are hosts'; `nowhere` are hosts that lead nowhere though it knows them.
    `switches` tells every change of a route.
    """

    name: str
    live: set[str] = field(default_factory=set)
    down: bool = False
    room: int = 32
    most_targets: int = 8
    fails: int = 0
    sick: set[Target] = field(default_factory=set)
    traffic: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    backends: dict[str, Backend] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)
    nowhere: set[str] = field(default_factory=set)
    switches: list[tuple[str, str]] = field(default_factory=list)

    def register(self, backend: Backend) -> None:
        self._answer()
        checked_backend(backend)
        if len(backend.targets) > self.most_targets:
            raise CapacityError(
                f"router {self.name} takes {self.most_targets} targets of a backend, and environment "
                f"{backend.environment} has {len(backend.targets)}"
            )
        if backend.environment not in self.backends and len(self.backends) >= self.room:
            raise CapacityError(f"router {self.name} has no room for environment {backend.environment}")
        for id, other in self.backends.items():
            if backend.host and other.host == backend.host:
                self.backends[id] = replace(other, host="")
        self.backends[backend.environment] = backend

    def forget(self, environment: str) -> None:
        self._answer()
        hosts = [host for host, to in self.hosts.items() if to == environment]
        if hosts:
            raise InvalidTransition(f"router {self.name} sends {', '.join(hosts)} to {environment}; switch it first")
        self.backends.pop(environment, None)

    def known(self) -> Mapping[str, Backend]:
        self._answer()
        return dict(self.backends)

    def switch(self, host: str, environment: str) -> None:
        self._answer()
        self._get(environment)
        self.hosts[checked_host(host)] = environment
        self.switches.append((host, environment))

    def unroute(self, host: str) -> None:
        self._answer()
        self.hosts.pop(checked_host(host), None)

    def routes(self) -> Mapping[str, str]:
        self._answer()
        return dict(self.hosts)

    def address_of(self, host: str) -> str:
        self._answer()
        return self.addresses.get(host, "")

    def leads(self, host: str) -> bool:
        self._answer()
        known = {*self.hosts, *(backend.host for backend in self.backends.values())}
        return host in known - self.nowhere

    def serving(self) -> frozenset[str]:
        self._answer()
        return frozenset(self.live) | frozenset(self.hosts.values())

    def reading(self, environment: str) -> Reading:
        self._answer()
        targets = self._get(environment).targets
        up = sum(target not in self.sick for target in targets)
        return Reading(*self.traffic.get(environment, (0, 0, 0)), up, len(targets))

    def cut(self, environment: str) -> None:
        self._answer()
        _, answers, errors = self.traffic.get(environment, (0, 0, 0))
        self.traffic[environment] = (0, answers, errors)

    def _get(self, environment: str) -> Backend:
        if environment not in self.backends:
            raise NotFound(f"router {self.name} knows no environment {environment}; register it first")
        return self.backends[environment]

    def _answer(self) -> None:
        if self.down or self.fails > 0:
            self.fails = max(0, self.fails - 1)
            raise TransientError(f"router {self.name} does not answer: it was told to be down")
