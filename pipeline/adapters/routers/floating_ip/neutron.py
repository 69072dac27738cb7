"""The floating addresses of a project, as Neutron tells them and is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pipeline.clients.openstack import Account, HostMark, connect, hosted, told, whole
from pipeline.domain.errors import CapacityError, PermanentError, TransientError, UserError

if TYPE_CHECKING:
    from openstack.connection import Connection

#: What an account should let one answer take, in seconds: the tick waits for it, and must not lose its office by that.
ANSWER_S = 4.0
#: Who let us wait for so long is left alone for a while, in seconds.
SLOW_S, ALONE_S = 2.0, 10.0
#: Whoever found no address left does not ask for one again so soon, in seconds.
FULL_S = 30.0


@dataclass(frozen=True)
class Held:
    """A floating address of the project. `mark`: the host that it serves, None: it is none of this deployment's router.
    `inside`: the fixed address that it leads to; empty: nowhere.
    """

    id: str
    address: str
    mark: HostMark | None = None
    inside: str = ""

    @property
    def kept(self) -> bool:
        """Whether it was there before it served a host."""
        return self.mark is None or self.mark.kept


class Neutron:
    """One account; any number of threads at once. Every call may raise TransientError: there was no good answer.

    `network` is the one that the targets' ports are on, `external` the one whose addresses are taken.
    """

    def __init__(
        self,
        name: str,
        deployment: str,
        account: Account,
        network: str,
        external: str,
        connect_: Callable[[Account], Connection] = connect,
    ) -> None:
        self._name = name
        self._deployment = deployment
        self._account = account
        self._network = network
        self._external = external
        self._connect = connect_
        self._ids: dict[str, str] = {}
        self._connecting = threading.Lock()
        self._alone_until = 0.0
        self._full_until = 0.0

    def held(self) -> Sequence[Held]:
        """All addresses of the project, by one call."""
        with self._asking("listing floating addresses"):
            return [self._seen(one) for one in self._neutron.ips(project_id=self._project)]

    def make(self, mark: HostMark, inside: str) -> None:
        """Make an address that leads there at once. CapacityError: there is none left."""
        if time.monotonic() < self._full_until:
            raise CapacityError(
                f"router {self._name}: no floating address was left a moment ago, and {mark.host} needs one; give "
                "environments back, or raise the project's quota of floating addresses"
            )
        body = self._body(mark, inside)
        external = self._id_of(self._external)
        try:
            with self._asking(f"making the floating address of {mark.host}"):
                made = self._neutron.create_ip(floating_network_id=external, **body)
        except CapacityError:
            self._full_until = time.monotonic() + FULL_S
            raise
        whole(f"making the floating address of {mark.host}", made.floating_ip_address)

    def lead(self, one: Held, mark: HostMark, inside: str) -> None:
        """Let an address serve a host and lead there, in one call; empty: nowhere. It says still who made it."""
        body = self._body(replace(mark, kept=one.kept), inside)
        with self._asking(f"leading floating address {one.address} of {mark.host} to {inside or 'nowhere'}"):
            self._neutron.update_ip(one.id, **body)

    def set_free(self, one: Held) -> None:
        """Let it serve nobody, and keep it."""
        with self._asking(f"setting floating address {one.address} free"):
            self._neutron.update_ip(one.id, description="", port_id=None)

    def release(self, one: Held) -> None:
        """Give it back to the cloud; nothing when it is gone."""
        with self._asking(f"releasing floating address {one.address}"):
            self._neutron.delete_ip(one.id, ignore_missing=True)
        self._full_until = 0.0

    def close(self) -> None:
        if "_connection" in vars(self):
            self._connection.close()

    @cached_property
    def _connection(self) -> Connection:
        return self._connect(self._account)

    @property
    def _neutron(self) -> Any:
        with self._connecting:
            return self._connection.network

    @property
    def _project(self) -> str:
        return str(self._connection.current_project_id)

    def _seen(self, one: Any) -> Held:
        mark = hosted(one.description)
        ours = mark if mark is not None and mark.deployment == self._deployment else None
        inside = str(one.fixed_ip_address or "") if one.port_id else ""
        return Held(str(one.id), str(one.floating_ip_address), ours, inside)

    def _body(self, mark: HostMark, inside: str) -> dict[str, Any]:
        told_of: dict[str, Any] = {"description": mark.description, "port_id": None}
        return {**told_of, "port_id": self._port(inside), "fixed_ip_address": inside} if inside else told_of

    def _port(self, inside: str) -> str:
        """The port that has a fixed address; UserError when there is none, as where nodes are in another project."""
        network = self._id_of(self._network)
        with self._asking(f"looking for the port at {inside}"):
            found = list(self._neutron.ports(network_id=network, fixed_ips=f"ip_address={inside}"))
        if not found:
            raise UserError(
                f"router {self._name} finds no port at {inside} in network {self._network} of {self._account}: its "
                "addresses lead to nodes of that network and that project of the cloud alone"
            )
        return str(found[0].id)

    def _id_of(self, network: str) -> str:
        if network not in self._ids:
            with self._asking(f"looking for network {network}"):
                found = list(self._neutron.networks(name=network))
            if len(found) != 1:
                raise PermanentError(
                    f"router {self._name}: there are {len(found)} networks {network!r} in {self._account}; name one "
                    "that there is once in the settings of its provider"
                )
            self._ids[network] = str(found[0].id)
        return self._ids[network]

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        began = time.monotonic()
        if began < self._alone_until:
            raise TransientError(f"router {self._name} does not ask {self._account}, which gave no answer in time")
        try:
            with told(f"{what} in {self._account}"):
                yield
        except TransientError as error:
            if time.monotonic() - began > SLOW_S:
                self._alone_until = time.monotonic() + ALONE_S
            raise TransientError(
                f"router {self._name} has no good answer: {error}", retry_after_s=error.retry_after_s
            ) from error
