"""Where things of one HAProxy lie, and what was told to it: a file that outlives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pipeline.clients.router_files import backend_in, locked_in, write_whole
from pipeline.domain.errors import CapacityError
from pipeline.domain.traffic import Backend


@dataclass(frozen=True)
class Layout:
    """Of one HAProxy. `bind` and `tls_bind` are HOST:PORT, empty: it does not listen so. `certificate` is a PEM file
    with key and chain. HAProxy 2.6 cannot make a backend while it runs, so there are `plain` and `sticky` ones from
    the start, each with `targets` places for servers.
    """

    home: Path
    bind: str = ""
    tls_bind: str = ""
    certificate: Path | None = None
    plain: int = 48
    sticky: int = 8
    targets: int = 16

    @property
    def socket(self) -> Path:
        return self.home / "haproxy.sock"

    @property
    def config(self) -> Path:
        return self.home / "haproxy.cfg"

    @property
    def hosts(self) -> Path:
        """Environments' own hosts and their backends."""
        return self.home / "hosts.map"

    @property
    def routes(self) -> Path:
        """Hosts that were switched, and their backends."""
        return self.home / "routes.map"

    @property
    def checks(self) -> Path:
        """Backends and the paths that tell whether they are well."""
        return self.home / "checks.map"

    @property
    def places(self) -> tuple[str, ...]:
        """Names of all backends, by kind."""
        return (*self.of_kind(sticky=False), *self.of_kind(sticky=True))

    def of_kind(self, *, sticky: bool) -> tuple[str, ...]:
        kind, many = ("sticky", self.sticky) if sticky else ("plain", self.plain)
        return tuple(f"{kind}-{number}" for number in range(1, many + 1))


@dataclass(frozen=True)
class Told:
    """What was told: environments by their backends' names, and hosts that were switched to environments."""

    placed: Mapping[str, Backend] = field(default_factory=dict)
    routes: Mapping[str, str] = field(default_factory=dict)

    def place_of(self, environment: str) -> str | None:
        return next((place for place, one in self.placed.items() if one.environment == environment), None)

    def with_backend(self, layout: Layout, backend: Backend) -> Told:
        """A host of its own that another one had is that one's no more. CapacityError when it does not fit."""
        if len(backend.targets) > layout.targets:
            raise CapacityError(
                f"the router takes {layout.targets} targets of a backend, and environment {backend.environment} has "
                f"{len(backend.targets)}"
            )
        kind, place = layout.of_kind(sticky=backend.sticky), self.place_of(backend.environment)
        if place not in kind:
            place = next((free for free in kind if free not in self.placed), None)
        if place is None:
            raise CapacityError(
                f"all {len(kind)} backends of the router that are {'' if backend.sticky else 'not '}sticky are taken, "
                f"and environment {backend.environment} needs one; give environments back, or raise their number"
            )
        others = {at: _without_host(one, backend.host) for at, one in self.without(backend.environment).placed.items()}
        return replace(self, placed={**others, place: backend})

    def without(self, environment: str) -> Told:
        return replace(self, placed={k: one for k, one in self.placed.items() if one.environment != environment})


def _without_host(backend: Backend, host: str) -> Backend:
    return replace(backend, host="") if host and backend.host == host else backend


def locked(layout: Layout) -> AbstractContextManager[None]:
    """One change at a time, whichever process makes it."""
    return locked_in(layout.home)


def load(layout: Layout) -> Told:
    """What was told so far."""
    file = layout.home / "told.json"
    if not file.exists():
        return Told()
    body = json.loads(file.read_text())
    return Told({place: backend_in(one) for place, one in body["placed"].items()}, body["routes"])


def save(layout: Layout, told: Told) -> None:
    body = {"placed": {place: asdict(one) for place, one in told.placed.items()}, "routes": dict(told.routes)}
    write_whole(layout.home / "told.json", json.dumps(body))
