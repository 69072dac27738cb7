"""`Router` by floating addresses of one project of a cloud.

The address of a host says in its description which host it serves and which environment it leads to, so that a switch
is one call, and where hosts lead is read from the cloud alone. What is open is Neutron's: nothing here sees or ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.adapters.routers.floating_ip import told as files
from pipeline.adapters.routers.floating_ip.looking import answers
from pipeline.adapters.routers.floating_ip.neutron import Held, Neutron
from pipeline.adapters.routers.floating_ip.plan import Step, steps
from pipeline.adapters.routers.floating_ip.told import Room, Told
from pipeline.clients.openstack import HostMark, each
from pipeline.clients.openstack.marks import MOST_DESCRIPTION
from pipeline.clients.router_files import locked_in
from pipeline.domain.errors import CapacityError, GreenroomError, InvalidTransition, NotFound, UserError
from pipeline.domain.traffic import MOST_PORT, Backend, Reading, Target, checked_backend, checked_host

log = logging.getLogger(__name__)
#: Seconds between two looks whether addresses lead to nodes that are well.
LOOK_S = 2.0
#: Touched by every look; whoever wants to know whether anybody looks asks when that was.
LOOKED = "looked"
#: What is open cannot be seen, so something may be: whoever drains waits for as long as a drain takes.
UNSEEN = 1


class FloatingRouter:
    """What is told is written to a file before the cloud hears of it. `reserved`: addresses by hosts.

    `well` says whether a target answers a path. One of all processes should call `keep` again and again.
    """

    def __init__(
        self,
        name: str,
        home: Path,
        deployment: str,
        neutron: Neutron,
        reserved: Mapping[str, str] | None = None,
        room: Room | None = None,
        well: Callable[[Target, str], bool] = answers,
    ) -> None:
        self.name = name
        self._home = home
        self._deployment = deployment
        self._neutron = neutron
        self._reserved = {} if reserved is None else reserved
        self._room = room or Room()
        self._is_well = well
        self._troubles: dict[str, str] = {}

    def register(self, backend: Backend) -> None:
        checked_backend(backend)
        if backend.host:
            self._mark(backend.host, backend.environment, own=True)
        with locked_in(self._home):
            held = self._neutron.held()
            self._check(backend, held)
            told = files.load(self._home).with_backend(self.name, self._room, backend)
            files.save(self._home, told)
            self._settle(told, backend.environment, held)

    def forget(self, environment: str) -> None:
        with locked_in(self._home):
            held = self._neutron.held()
            hosts = sorted(host for host, to in _routes(held).items() if to == environment)
            if hosts:
                raise InvalidTransition(
                    f"router {self.name} sends {', '.join(hosts)} to {environment}; switch it first"
                )
            for one in held:
                if one.mark is not None and one.mark.environment == environment:
                    self._let_go(one)
            files.save(self._home, files.load(self._home).without(environment))

    def known(self) -> Mapping[str, Backend]:
        """Also a node that an address still leads to although it should not, so that nobody takes it away; and an own
        host whose environment nobody was told of, so that somebody forgets it.
        """
        held, told = self._neutron.held(), files.load(self._home).backends
        own = {one.mark.environment for one in held if one.mark is not None and one.mark.own}
        return {id: _seen(told.get(id, Backend(id, ())), held) for id in sorted(told.keys() | own)}

    def switch(self, host: str, environment: str) -> None:
        mark = self._mark(checked_host(host), environment)
        with locked_in(self._home):
            told = files.load(self._home)
            self._backend(told, environment)
            held = self._neutron.held()
            left = _routes(held).get(mark.host)
            self._check_hosts(told.backends[environment], held, mark.host)
            self._settle(told, environment, held, mark)
            if left != environment:
                self._settle_again(told, left)

    def unroute(self, host: str) -> None:
        host = checked_host(host)
        with locked_in(self._home):
            held = self._neutron.held()
            for one in held:
                if one.mark is not None and one.mark.host == host and not one.mark.own:
                    self._let_go(one)
            self._settle_again(files.load(self._home), _routes(held).get(host))

    def routes(self) -> Mapping[str, str]:
        return _routes(self._neutron.held())

    def serving(self) -> frozenset[str]:
        return frozenset(self.routes().values())

    def reading(self, environment: str) -> Reading:
        """Looks at its targets now. What is open is not seen, and answers are not counted."""
        told = files.load(self._home)
        backend = self._backend(told, environment)
        well = self._tend(told, backend, self._neutron.held())
        up = sum(target.address in well for target in backend.targets)
        return Reading(UNSEEN if backend.targets else 0, 0, 0, up, len(backend.targets))

    def cut(self, environment: str) -> None:
        """Ends nothing: Neutron has no word for that. What is open in nodes ends with them."""

    def address_of(self, host: str) -> str:
        found = [one for one in self._neutron.held() if one.mark is not None and one.mark.host == host]
        return next((one.address for one in sorted(found, key=_is_own)), "")

    def leads(self, host: str) -> bool:
        return any(one.inside for one in self._neutron.held() if one.mark is not None and one.mark.host == host)

    def keep(self) -> None:
        """Look at every environment to which an address leads, and move addresses from nodes that are not well."""
        told, held = files.load(self._home), self._neutron.held()
        served = {one.mark.environment for one in held if one.mark is not None}
        for id in sorted(served & told.backends.keys()):
            try:
                self._tend(told, told.backends[id], held)
                self._troubles.pop(id, None)
            except GreenroomError as error:
                if self._troubles.get(id) != str(error):
                    log.warning("environment %s is not served as it should: %s", id, error)
                self._troubles[id] = str(error)
        with locked_in(self._home):
            (self._home / LOOKED).touch()

    def _tend(self, told: Told, backend: Backend, held: Sequence[Held]) -> Collection[str]:
        """Addresses of targets that are well; what leads elsewhere than it should is led there."""
        well = self._well(backend)
        if self._steps(told, backend.environment, held, None, well):
            with locked_in(self._home):
                now = files.load(self._home)
                if backend.environment in now.backends:
                    self._settle(now, backend.environment, self._neutron.held(), well=well)
        return well

    def _settle(
        self,
        told: Told,
        environment: str,
        held: Sequence[Held],
        coming: HostMark | None = None,
        well: Collection[str] | None = None,
    ) -> None:
        """Let the hosts of an environment lead to it, and one that comes."""
        seen = self._well_if_asked(told.backends[environment]) if well is None else well
        for step in self._steps(told, environment, held, coming, seen):
            if step.mark is None:
                assert step.held is not None  # noqa: S101  # a step is about one or the other
                self._let_go(step.held)
            elif step.held is None:
                self._neutron.make(step.mark, step.inside)
            else:
                self._neutron.lead(step.held, step.mark, step.inside)

    def _settle_again(self, told: Told, environment: str | None) -> None:
        """A host left an environment: its own host may lead to a node again."""
        if environment is not None and environment in told.backends:
            self._settle(told, environment, self._neutron.held())

    def _steps(
        self, told: Told, environment: str, held: Sequence[Held], coming: HostMark | None, well: Collection[str]
    ) -> Sequence[Step]:
        backend = told.backends[environment]
        switched = {one.mark for one in held if one.mark and not one.mark.own and one.mark.environment == environment}
        wanted = sorted(switched | ({coming} if coming else set()), key=lambda mark: mark.host)
        if backend.host:
            wanted.append(self._mark(backend.host, environment, own=True))
        return list(steps(backend, held, well, wanted, self._reserved))

    def _well(self, backend: Backend) -> Collection[str]:
        looked = each(lambda target: self._is_well(target, backend.health), backend.targets)
        return {target.address for target, well in zip(backend.targets, looked, strict=True) if well}

    def _well_if_asked(self, backend: Backend) -> Collection[str]:
        """Where there is one target there is no choice, and nobody waits for a look at it."""
        return self._well(backend) if len(backend.targets) > 1 else {one.address for one in backend.targets}

    def _let_go(self, one: Held) -> None:
        if one.kept:
            self._neutron.set_free(one)
        else:
            self._neutron.release(one)

    def _backend(self, told: Told, environment: str) -> Backend:
        if environment not in told.backends:
            raise NotFound(f"router {self.name} knows no environment {environment}; register it first")
        return told.backends[environment]

    def _mark(self, host: str, environment: str, *, own: bool = False) -> HostMark:
        mark = HostMark(self._deployment, host, environment, own)
        if len(mark.description) > MOST_DESCRIPTION:
            raise UserError(f"{host[:80]}… is too long for router {self.name}: its name is kept at a floating address")
        return mark

    def _check(self, backend: Backend, held: Sequence[Held]) -> None:
        floating = {one.address for one in held}
        for target in backend.targets:
            if target.address in floating:
                raise UserError(
                    f"environment {backend.environment} is reached at {target.address}, a floating address of a node: "
                    f"a port has one at most, so router {self.name} cannot lead another one there; let its role and "
                    "its provider ask for none"
                )

    def _check_hosts(self, backend: Backend, held: Sequence[Held], coming: str) -> None:
        """CapacityError when an environment with nodes has fewer of them than hosts."""
        hosts = {coming, *(host for host, to in _routes(held).items() if to == backend.environment)}
        nodes = {target.address for target in backend.targets}
        if nodes and len(hosts) > len(nodes):
            raise CapacityError(
                f"environment {backend.environment} has {len(nodes)} nodes for {', '.join(sorted(hosts))}: router "
                f"{self.name} needs one for each host; scale it out first"
            )


def _seen(backend: Backend, held: Sequence[Held]) -> Backend:
    """What answers for an environment by its addresses, beside what was told."""
    mine = [(one.mark, one.inside) for one in held if one.mark and one.mark.environment == backend.environment]
    host = next((mark.host for mark, _ in mine if mark.own), "")
    told = {target.address for target in backend.targets}
    port = next((target.port for target in backend.targets), MOST_PORT)  # an address leads to all ports
    more = [Target(inside, port) for _, inside in mine if inside and inside not in told]
    return replace(backend, host=host, targets=(*backend.targets, *more))


def _routes(held: Sequence[Held]) -> dict[str, str]:
    return {one.mark.host: one.mark.environment for one in held if one.mark is not None and not one.mark.own}


def _is_own(one: Held) -> bool:
    return one.mark is not None and one.mark.own
