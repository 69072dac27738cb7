"""`Router` by one HAProxy of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace

from pipeline.adapters.routers.haproxy import config, layout
from pipeline.adapters.routers.haproxy.layout import Layout, Told, locked
from pipeline.adapters.routers.haproxy.runtime import Runtime
from pipeline.clients.router_files import write_whole
from pipeline.domain.errors import InvalidTransition, NotFound, PermanentError
from pipeline.domain.traffic import Backend, Reading, Target, checked_backend, checked_host

#: The classes of answers as HAProxy counts them.
_ANSWERS = ("hrsp_1xx", "hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx", "hrsp_other")
#: What validating a configuration may take, in seconds.
CHECK_S = 30.0


class HaproxyRouter:
    """What is told is written down before HAProxy hears of it, so it starts with all that it knew."""

    def __init__(self, name: str, layout_: Layout) -> None:
        self.name = name
        self._layout = layout_
        self._runtime = Runtime(layout_.socket)

    def prepare(self) -> list[str]:
        """Write and validate the configuration; the command that starts HAProxy with it, which stays in front."""
        program = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
        if program is None:
            raise PermanentError("haproxy is not there; run `make setup`")
        with locked(self._layout):
            self._write(layout.load(self._layout))
        self._validate(program)
        return [program, "-db", "-f", str(self._layout.config)]

    def register(self, backend: Backend) -> None:
        checked_backend(backend)
        with locked(self._layout):
            before = layout.load(self._layout)
            told = before.with_backend(self._layout, backend)
            place, left = told.place_of(backend.environment), before.place_of(backend.environment)
            assert place is not None  # noqa: S101  # `with_backend` gave it one
            layout.save(self._layout, told)
            self._tell_backend(place, backend, before.placed.get(place))
            if left is not None and left != place:
                self._move(told, backend.environment, place, left)

    def forget(self, environment: str) -> None:
        with locked(self._layout):
            told = layout.load(self._layout)
            hosts = [host for host, to in told.routes.items() if to == environment]
            if hosts:
                raise InvalidTransition(
                    f"router {self.name} sends {', '.join(hosts)} to {environment}; switch it first"
                )
            place = told.place_of(environment)
            if place is None:
                return
            self._clear(place, told.placed[place])
            layout.save(self._layout, told.without(environment))

    def known(self) -> Mapping[str, Backend]:
        targets = self._runtime.targets()
        hosts = {place: host for host, place in self._runtime.entries(self._layout.hosts).items()}
        checks = self._runtime.entries(self._layout.checks)
        sticky = self._layout.of_kind(sticky=True)
        return {
            one.environment: Backend(
                one.environment, targets.get(place, ()), hosts.get(place, ""), checks.get(place, "/"), place in sticky
            )
            for place, one in layout.load(self._layout).placed.items()
        }

    def switch(self, host: str, environment: str) -> None:
        host = checked_host(host)
        with locked(self._layout):
            told = layout.load(self._layout)
            place = self._place(told, environment)
            layout.save(self._layout, replace(told, routes={**told.routes, host: environment}))
            self._runtime.put(self._layout.routes, host, place)

    def unroute(self, host: str) -> None:
        host = checked_host(host)
        with locked(self._layout):
            told = layout.load(self._layout)
            layout.save(self._layout, replace(told, routes={key: to for key, to in told.routes.items() if key != host}))
            self._runtime.remove(self._layout.routes, host)

    def routes(self) -> Mapping[str, str]:
        entries = self._runtime.entries(self._layout.routes)
        placed = layout.load(self._layout).placed
        return {host: placed[place].environment for host, place in entries.items() if place in placed}

    def address_of(self, host: str) -> str:  # noqa: ARG002  # every host leads to where HAProxy listens
        return ""

    def leads(self, host: str) -> bool:
        return any(host in self._runtime.entries(names) for names in (self._layout.routes, self._layout.hosts))

    def serving(self) -> frozenset[str]:
        return frozenset(self.routes().values())

    def reading(self, environment: str) -> Reading:
        told = layout.load(self._layout)
        place = self._place(told, environment)
        *servers, backend = self._runtime.statistics(place)
        up = sum(row["status"].startswith("UP") for row in servers)
        answers = sum(int(backend[kind] or 0) for kind in _ANSWERS)
        return Reading(
            int(backend["scur"]), answers, int(backend["hrsp_5xx"] or 0), up, len(told.placed[place].targets)
        )

    def cut(self, environment: str) -> None:
        place = layout.load(self._layout).place_of(environment)
        if place is not None:
            self._runtime.tell([f"shutdown sessions server {place}/{name}" for name in self._servers()])

    def _place(self, told: Told, environment: str) -> str:
        place = told.place_of(environment)
        if place is None:
            raise NotFound(f"router {self.name} knows no environment {environment}; register it first")
        return place

    def _servers(self) -> list[str]:
        return [config.server(number) for number in range(1, self._layout.targets + 1)]

    def _tell_backend(self, place: str, backend: Backend, before: Backend | None) -> None:
        """A target that stays keeps its server, whose health would be looked at anew; who is left out is drained."""
        self._runtime.put(self._layout.checks, place, backend.health)
        if before is not None and before.host and before.host != backend.host:
            self._runtime.remove(self._layout.hosts, before.host)
        if backend.host:
            self._runtime.put(self._layout.hosts, checked_host(backend.host), place)
        there = self._runtime.servers(place)
        stay = {target for target in there.values() if target in backend.targets}
        leave = [name for name, target in there.items() if target not in backend.targets]
        coming = [target for target in dict.fromkeys(backend.targets) if target not in stay]
        seats = [name for name in self._servers() if name not in there]
        for target, name in zip(coming, (*seats, *leave), strict=False):
            self._seat(f"{place}/{name}", target)
        self._runtime.tell(
            [f"set server {place}/{name} state maint" for name in leave[max(0, len(coming) - len(seats)) :]]
        )

    def _seat(self, server: str, target: Target) -> None:
        """Down until a look at it went well. One that leaves `maint` is up before anybody looked, so it goes by
        `drain`, in which it gets nothing, and is told to be down there.
        """
        address = f"set server {server} addr {target.address} port {target.port}"
        words = ("state maint", "state drain", "health down", "state ready")
        maint, drain, down, ready = (f"set server {server} {word}" for word in words)
        self._runtime.tell([maint, address, drain, down, ready])

    def _move(self, told: Told, environment: str, place: str, left: str) -> None:
        """It got a backend of the other kind: hosts follow it before the old one is cleared."""
        for host, to in told.routes.items():
            if to == environment:
                self._runtime.put(self._layout.routes, host, place)
        self._runtime.tell([f"set server {left}/{name} state maint" for name in self._servers()])
        self._runtime.remove(self._layout.checks, left)

    def _clear(self, place: str, backend: Backend) -> None:
        if backend.host:
            self._runtime.remove(self._layout.hosts, backend.host)
        self._runtime.tell([f"set server {place}/{name} state maint" for name in self._servers()])
        self._runtime.remove(self._layout.checks, place)

    def _write(self, told: Told) -> None:
        files = {
            self._layout.hosts: config.hosts(told),
            self._layout.routes: config.routes(told),
            self._layout.checks: config.checks(told),
            self._layout.config: config.configuration(self._layout, told),
        }
        for path, text in files.items():
            write_whole(path, text)

    def _validate(self, program: str) -> None:
        argv = [program, "-c", "-f", str(self._layout.config)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=CHECK_S, check=False)
        if done.returncode != 0:
            raise PermanentError(f"HAProxy does not accept {self._layout.config}: {done.stderr.strip()[-2000:]}")
