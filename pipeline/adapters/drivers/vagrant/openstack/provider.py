"""vagrant-openstack-provider makes and removes servers; what knows the cloud sees to all else, and is asked first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import Found
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, NodeRequest, NodeStatus, NodeView


class Around(Protocol):
    """The cloud without Vagrant, for one deployment and one account."""

    @property
    def capabilities(self) -> Capabilities:
        """What servers can do, and the images at hand."""

    def unusable(self) -> Sequence[str]:
        """Why the provider cannot use the accounts, one sentence each; nobody is asked."""

    def mistakes(self) -> Sequence[str]:
        """What the settings name and the cloud does not have, one sentence each."""

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:
        """PermanentError for a node that this cloud can never have, CapacityError when it has no room now."""

    def nodes(self) -> Sequence[NodeView]:
        """Every server of the deployment."""

    def environments(self) -> Mapping[str, float]:
        """Environments of which anything is there, and when their leases end (epoch seconds; 0: unknown)."""

    def prepare(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> Mapping[str, Mapping[str, Any]]:
        """Make what these nodes need; what the provider is told of each. May be repeated."""

    def turns(self, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
        """Those that may be made at a time, one turn after the other."""

    def settle(self, request: EnvironmentRequest) -> None:
        """Give servers that run what the provider cannot; until then they have no address. May be repeated."""

    def known(self, id: str) -> Mapping[str, Any]:
        """What the provider is told of the account that a server is of."""

    def remove(self, id: str) -> None:
        """Remove a server and return when it is gone; one that is not there is no fault."""

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        """Remove what was made around servers that are gone: these, or with None all of the environment."""

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Let the environment's mark tell another end (epoch seconds); nothing there is no fault."""


class OpenStack:
    """`Provider` for servers: it keeps one login for all machines of a directory, which are of one project."""

    name = "openstack"

    def __init__(self, around: Around) -> None:
        self._around = around

    @property
    def capabilities(self) -> Capabilities:
        return self._around.capabilities

    def missing(self) -> Sequence[str]:
        there = [] if shutil.which("vagrant") else ["vagrant is not there: apt-get install vagrant"]
        return [*there, *self._around.unusable()]

    def mistakes(self) -> Sequence[str]:
        return self._around.mistakes()

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:
        self._around.admit(request, nodes)

    def found(self) -> Sequence[Found]:
        return [_found(view) for view in self._around.nodes()]

    def environments(self) -> Mapping[str, float]:
        return self._around.environments()

    def prepare(
        self,
        place: Place,  # noqa: ARG002  # a server needs no files here
        request: EnvironmentRequest,
        nodes: Sequence[NodeRequest],
        standing: Sequence[Found],  # noqa: ARG002  # nor anything of its neighbours
    ) -> Mapping[str, Mapping[str, Any]]:
        return self._around.prepare(request, nodes)

    def turns(self, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
        return self._around.turns(nodes)

    def settle(self, request: EnvironmentRequest) -> None:
        self._around.settle(request)

    def known(self, found: Found) -> Mapping[str, Any]:
        return self._around.known(found.id)

    def reason(self, place: Place, found: Found) -> str:  # noqa: ARG002  # Nova tells it with the list
        return found.fault

    def remove(self, found: Found) -> None:
        self._around.remove(found.id)

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        self._around.release(environment_id, nodes)

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        self._around.mark_end(environment_id, ends_at)


def _found(view: NodeView) -> Found:
    running = view.status is NodeStatus.ACTIVE
    reached = (view.address, view.inside_address, view.addresses)
    return Found(view.environment_id, view.name, view.driver_id, running, *reached, view.machine, view.fault, view.full)
