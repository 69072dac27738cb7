"""vagrant-openstack-provider makes and removes servers; what knows the cloud sees to all else, and is asked first."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.adapters.drivers.vagrant.provider import Found
from pipeline.domain.errors import PermanentError
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest, NodeStatus, NodeView


class Around(Protocol):
    """The cloud without Vagrant, for one deployment and one account."""

    @property
    def images(self) -> Sequence[str]:
        """The images at hand, by name."""

    @property
    def login(self) -> bool:
        """Whether somebody can log in to servers."""

    def account(self) -> Mapping[str, Any]:
        """What the provider is told of the account; PermanentError when it cannot use it."""

    def admit(self, nodes: Sequence[NodeRequest]) -> None:
        """PermanentError for a node that this cloud can never have, CapacityError when it has no room now."""

    def nodes(self) -> Sequence[NodeView]:
        """Every server of the deployment."""

    def environments(self) -> Mapping[str, float]:
        """Environments of which anything is there, and when their leases end (epoch seconds; 0: unknown)."""

    def prepare(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> Mapping[str, Mapping[str, Any]]:
        """Make what these nodes need; what the provider is told of each. May be repeated."""

    def remove(self, id: str) -> None:
        """Remove a server and return when it is gone; one that is not there is no fault."""

    def release(self, environment_id: str) -> None:
        """Remove what `prepare` made; nothing there is no error."""


class OpenStack:
    """`Provider` for the servers of one account: the provider keeps one login for all machines of a directory."""

    name = "openstack"

    def __init__(self, around: Around) -> None:
        self._around = around

    @property
    def images(self) -> Sequence[str]:
        return self._around.images

    @property
    def login(self) -> bool:
        return self._around.login

    def missing(self) -> Sequence[str]:
        found = [] if shutil.which("vagrant") else ["vagrant is not there: apt-get install vagrant"]
        try:
            self._around.account()
        except PermanentError as error:
            found.append(str(error))
        return found

    def admit(self, nodes: Sequence[NodeRequest]) -> None:
        self._around.admit(nodes)

    def found(self) -> Sequence[Found]:
        return [
            Found(view.environment_id, view.name, view.driver_id, view.status is NodeStatus.ACTIVE, view.address)
            for view in self._around.nodes()
        ]

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

    def known(self, found: Found) -> Mapping[str, Any]:  # noqa: ARG002  # its id is all that is asked for
        return self._around.account()

    def reason(self, place: Place, node: str) -> str:
        mine = (view for view in self._around.nodes() if view.environment_id == place.environment_id)
        return next((view.fault for view in mine if view.name == node), "")

    def remove(self, found: Found) -> None:
        self._around.remove(found.id)

    def release(self, environment_id: str) -> None:
        self._around.release(environment_id)
