"""Greenroom's driver of Vagrant: one directory an environment, and the provider asked before Vagrant is.

Whoever makes or removes an environment keeps a lock on it, ends what an earlier call of Vagrant left running, looks at
what really is there, and corrects what Vagrant believes; then Vagrant is called, for as long as its time limit allows.
What it does not remove is removed without it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from functools import cached_property
from pathlib import Path

from pipeline.adapters.drivers.vagrant.locks import Locks
from pipeline.adapters.drivers.vagrant.lxc.provider import Lxc
from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import AddBox, Found, Provider
from pipeline.adapters.drivers.vagrant.sessions import Say, Vagrant, end_session
from pipeline.adapters.drivers.vagrant.terms import Terms
from pipeline.domain.errors import InfraError, PermanentError, TransientError
from pipeline.domain.inventory import Inventory, Load, Machine
from pipeline.ports.drivers import (
    Capabilities,
    EnvironmentRequest,
    Listing,
    NodeRequest,
    NodeStatus,
    NodeView,
    OwnedEnvironment,
)

log = logging.getLogger(__name__)

#: Opens the log of a run, by its id, for what Vagrant says; where none is given, of nobody.
Hearing = Callable[[str], AbstractContextManager[Say]]
#: Makes the provider, which is given what adds boxes.
Choice = Callable[[AddBox], Provider]
#: How long Vagrant may take to add a box, in seconds.
BOX_S = 60.0
#: It becomes part of a path.
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class VagrantDriver:
    """`Driver` of one provider of Vagrant, whose files are below `home`; `hearing` opens the log of who waits.

    Without `provider` it is vagrant-lxc.
    """

    def __init__(
        self, deployment: str, terms: Terms, home: Path, hearing: Hearing, provider: Choice | None = None
    ) -> None:
        self._terms = terms
        self._hearing = hearing
        self._places = home / "environments"
        self._locks = Locks(home / "locks")
        self._vagrant = Vagrant(home / "vagrant")
        self._provider = provider(self._add_box) if provider else Lxc(deployment, terms, self._add_box)

    @cached_property
    def capabilities(self) -> Capabilities:
        """Images as they were at the first look."""
        return self._provider.capabilities

    def create(self, request: EnvironmentRequest) -> None:
        """Make the nodes; they run when it returns, or the provider shows what is wrong with one."""
        place = self._place(request.environment_id)
        with self._locks.environment(request.environment_id):
            self._usable()
            standing = self._tidied(place, {node.name for node in request.nodes})
            there = {one.node for one in standing}
            missing = [node for node in request.nodes if node.name not in there]
            if not missing or self._make(place, request, missing, standing):
                self._provider.settle(request)

    def _make(
        self, place: Place, request: EnvironmentRequest, missing: Sequence[NodeRequest], standing: Sequence[Found]
    ) -> bool:
        """Make what is missing; whether all of it runs."""
        self._provider.admit(request, missing)
        place.open(self._terms.templates)
        place.write(request.ends_at, request.owner, self._entries(place, standing))
        with place.making([node.name for node in missing]), self._hearing(request.owner) as say:
            return self._bring_up(place, request, missing, standing, say)

    def _bring_up(
        self,
        place: Place,
        request: EnvironmentRequest,
        missing: Sequence[NodeRequest],
        standing: Sequence[Found],
        say: Say,
    ) -> bool:
        machines = self._provider.prepare(place, request, missing, standing)
        place.write(request.ends_at, request.owner, {**self._entries(place, standing), **machines})
        place.tell({one.node: one.id for one in standing})
        try:
            self._up(place, missing, say)
        except TransientError as error:
            self._judge(place, request, missing, error)
            return False
        return True

    def _up(self, place: Place, missing: Sequence[NodeRequest], say: Say) -> None:
        """Call Vagrant; TransientError when it fails, or when nodes do not run of which it said that they came up."""
        for turn in self._provider.turns(missing):
            self._call(place, ["up", *(node.name for node in turn)], self._terms.up_s, say)
        running = {one.node for one in self._found(place) if one.running}
        silent = [node.name for node in missing if node.name not in running]
        if silent:
            raise TransientError(f"vagrant said that {', '.join(silent)} of {place.environment_id} came up; none runs")

    def _judge(
        self, place: Place, request: EnvironmentRequest, missing: Sequence[NodeRequest], error: TransientError
    ) -> None:
        """Raise what a failed call means, which Vagrant does not tell: CapacityError where the room went meanwhile.

        Nothing where the provider shows a fault of a node: whoever looks at nodes goes by that.
        """
        reasons = ""
        with suppress(TransientError):  # a provider that does not answer now must not hide what came first
            shown = self._among(place, [node.name for node in missing])
            if any(one.fault for one in shown):
                log.warning("environment %s: %s", place.environment_id, error)
                return
            reasons = self._reasons(place, shown)
            there = {one.node for one in shown}
            self._provider.admit(request, [node for node in missing if node.name not in there])
        raise TransientError(f"{error}{reasons}") from error

    def _reasons(self, place: Place, shown: Sequence[Found]) -> str:
        """What the provider has against these machines."""
        told = {one.node: self._provider.reason(place, one) for one in shown}
        return "".join(f"\n{node}: {why}" for node, why in told.items() if why)

    def nodes(self) -> Sequence[NodeView]:
        """Those that are being made, too, of which the provider shows nothing yet: that may take Vagrant long."""
        coming = self._coming()  # first: what comes up meanwhile is found after that
        found = [self._view(one) for one in self._provider.found()]
        there = {(view.environment_id, view.name) for view in found}
        return [*found, *(view for view in coming if (view.environment_id, view.name) not in there)]

    def _coming(self) -> Sequence[NodeView]:
        """What is made by somebody who lives."""
        places = [self._place(path.name) for path in self._paths()]
        making = [(place.environment_id, place.being_made()) for place in places]
        return [
            NodeView(environment_id, node, "", NodeStatus.BUILDING)
            for environment_id, nodes in making
            if nodes and self._locks.busy(environment_id)
            for node in nodes
        ]

    def list(self) -> Listing:
        nodes = tuple(self.nodes())
        ends: dict[str, float] = {view.environment_id: 0.0 for view in nodes}
        for told in (self._placed(), self._provider.environments()):
            for environment_id, ends_at in told.items():
                ends[environment_id] = max(ends_at, ends.get(environment_id, 0.0))
        return Listing(nodes, tuple(OwnedEnvironment(id, ends_at) for id, ends_at in ends.items()))

    def _placed(self) -> Mapping[str, float]:
        """Environments that have a directory."""
        return {path.name: self._place(path.name).ends_at() for path in self._paths()}

    def _paths(self) -> Sequence[Path]:
        return tuple(self._places.iterdir()) if self._places.is_dir() else ()

    def destroy(self, environment_id: str, nodes: Sequence[str] | None = None) -> None:
        place = self._place(environment_id)
        with self._locks.environment(environment_id):
            end_session(place.path)
            place.made()
            doomed = self._among(place, nodes)
            if doomed:
                self._let_vagrant_remove(place, doomed)
            for one in self._among(place, nodes):
                self._provider.remove(one)
            self._provider.release(environment_id, nodes)
            if nodes is None:
                place.remove()
            elif place.exists():
                place.forget(nodes)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """TransientError while somebody makes or removes its nodes: that may take Vagrant long."""
        place = self._place(environment_id)
        with self._locks.at_once(environment_id):
            if place.exists():
                try:
                    place.write(ends_at, place.owner(), place.machines())
                except OSError as error:
                    raise TransientError(f"{place.path} cannot be written: {error.strerror}") from error
            self._provider.mark_end(environment_id, ends_at)

    def inventory(self) -> Inventory | None:
        return None

    def loads(self, machines: Sequence[Machine]) -> Mapping[str, Load]:  # noqa: ARG002  # called by name
        return {}

    def check(self) -> Sequence[str]:
        return [*self._provider.missing(), *self._provider.mistakes()]

    def clean(self) -> None:
        """Remove everything of this deployment."""
        for environment in self.list().environments:
            self.destroy(environment.environment_id)

    def close(self) -> None:
        """Nothing is kept open between calls."""

    def _usable(self) -> None:
        missing = self._provider.missing()
        if missing:
            raise PermanentError("; ".join(missing))

    def _tidied(self, place: Place, wanted: Collection[str]) -> Sequence[Found]:
        """The environment's machines; what an interrupted call left half-made of those that are wanted is removed.

        One that is not asked for may be stopped, or start again: it is not ours to remove.
        """
        end_session(place.path)
        for one in self._among(place, wanted):
            if not one.running:
                log.warning("machine %s was left half-made or stopped: it is removed", one.id)
                self._provider.remove(one)
        return self._found(place)

    def _let_vagrant_remove(self, place: Place, doomed: Sequence[Found]) -> None:
        """It is asked first; where it fails, what is left goes without it."""
        try:
            standing = self._found(place)
            place.open(self._terms.templates)
            place.write(place.ends_at(), place.owner(), self._entries(place, standing))
            place.tell({one.node: one.id for one in standing})
            with self._hearing(place.owner()) as say:
                self._call(place, ["destroy", *(one.node for one in doomed)], self._terms.destroy_s, say)
        except (InfraError, OSError) as error:
            log.warning("environment %s is removed without vagrant: %s", place.environment_id, error)

    def _entries(self, place: Place, standing: Sequence[Found]) -> Mapping[str, Mapping[str, object]]:
        """What the Vagrantfile says of machines that are there."""
        said = place.machines()
        return {one.node: said.get(one.node) or self._provider.known(one) for one in standing}

    def _call(self, place: Place, arguments: Sequence[str], limit_s: float, say: Say) -> None:
        self._vagrant.call(place.path, arguments, limit_s=limit_s, say=say, provider=self._provider.name)

    def _add_box(self, place: Place, name: str, file: Path) -> None:
        """Add a box unless Vagrant has it; one at a time, since Vagrant refuses a name that is being added."""
        if (self._vagrant.home / "boxes" / name).is_dir():
            return
        with self._locks.boxes():
            if not (self._vagrant.home / "boxes" / name).is_dir():
                self._call(place, ["box", name, str(file)], BOX_S, _quietly)

    def _found(self, place: Place) -> Sequence[Found]:
        return [one for one in self._provider.found() if one.environment_id == place.environment_id]

    def _among(self, place: Place, nodes: Collection[str] | None) -> Sequence[Found]:
        return [one for one in self._found(place) if nodes is None or one.node in nodes]

    def _view(self, found: Found) -> NodeView:
        status, fault = NodeStatus.ACTIVE if found.address else NodeStatus.BUILDING, ""
        if not found.running:
            busy = self._locks.busy(found.environment_id)
            status = NodeStatus.BUILDING if busy else NodeStatus.ERROR
            fault = "" if busy else self._why_not(found)
        return NodeView(
            found.environment_id,
            found.node,
            found.id,
            status,
            found.address,
            fault=fault,
            full=found.full,
            machine=found.machine,
            inside_address=found.inside_address,
            addresses=found.addresses,
        )

    def _why_not(self, found: Found) -> str:
        said = self._provider.reason(self._place(found.environment_id), found)
        return f"it does not run: {said or 'it was stopped, or its making was interrupted'}"

    def _place(self, environment_id: str) -> Place:
        if not ID.fullmatch(environment_id):
            raise PermanentError(f"environment {environment_id!r}: expected letters a-z, digits and -")
        return Place(self._places / environment_id, self._provider.name)


def _quietly(piece: bytes) -> None:
    log.debug("vagrant: %s", piece.decode(errors="replace").strip())
