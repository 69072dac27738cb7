"""Stands for the part of Neutron that routers use, in memory: its rules, and its errors as openstacksdk raises them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import requests
from keystoneauth1.exceptions import ConnectFailure
from openstack.exceptions import ConflictException, HttpException, NotFoundException

from pipeline.adapters.routers.floating_ip import FloatingRouter, Neutron, Room
from pipeline.clients.openstack import Account
from pipeline.domain.traffic import Target

if TYPE_CHECKING:
    from openstack.connection import Connection

PROJECT, INSIDE, OUTSIDE = "shop-cloud", "shop-net", "public"


@dataclass
class PosingNeutron:
    """One project. `ports` are the fixed addresses there; None: every one has a port. `quota` is of floating addresses.

    `calls` tells every change: what, and of which description.
    """

    ports: set[str] | None = None
    quota: int = 50
    silent: bool = False
    addresses: dict[str, SimpleNamespace] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    _made: int = 0

    @property
    def connection(self) -> Connection:
        network = SimpleNamespace(
            networks=self._networks,
            ports=self._ports,
            ips=self._ips,
            create_ip=self._create,
            update_ip=self._update,
            delete_ip=self._delete,
        )
        return cast("Connection", SimpleNamespace(network=network, current_project_id=PROJECT, close=lambda: None))

    def leads(self) -> Mapping[str, str]:
        """Fixed addresses by the descriptions of the floating ones that lead there."""
        return {one.description: one.fixed_ip_address for one in self.addresses.values() if one.port_id}

    def reserve(self, address: str, description: str = "", inside: str | None = None) -> None:
        """An address that somebody else made."""
        port = self._port_of(inside) if inside else None
        self.addresses[address] = SimpleNamespace(
            id=f"id-{address}", floating_ip_address=address, description=description, port_id=port,
            fixed_ip_address=inside, project_id=PROJECT,
        )  # fmt: skip

    def _networks(self, *, name: str) -> list[SimpleNamespace]:
        self._answer()
        return [SimpleNamespace(id=f"id-{name}", name=name)] if name in {INSIDE, OUTSIDE} else []

    def _ports(self, *, network_id: str, fixed_ips: str) -> list[SimpleNamespace]:
        self._answer()
        assert network_id == f"id-{INSIDE}"
        address = fixed_ips.removeprefix("ip_address=")
        there = self.ports is None or address in self.ports
        return [SimpleNamespace(id=self._port_of(address))] if there else []

    def _ips(self, *, project_id: str) -> list[SimpleNamespace]:
        self._answer()
        return [one for one in self.addresses.values() if one.project_id == project_id]

    def _create(self, *, floating_network_id: str, description: str, **leads: Any) -> SimpleNamespace:
        self._answer()
        assert floating_network_id == f"id-{OUTSIDE}"
        if len(self.addresses) >= self.quota:
            raise _refused(ConflictException, 409, "Quota exceeded for resources: ['floatingip'].")
        self._made += 1
        address = f"203.0.113.{self._made}"
        self.reserve(address, description)
        return self._change("make", self.addresses[address], description, **leads)

    def _update(self, id: str, *, description: str, **leads: Any) -> SimpleNamespace:
        self._answer()
        return self._change("lead", self._get(id), description, **leads)

    def _delete(self, id: str, *, ignore_missing: bool) -> None:
        self._answer()
        assert ignore_missing
        for address, one in list(self.addresses.items()):
            if one.id == id:
                self.calls.append(("release", one.description))
                del self.addresses[address]

    def _change(
        self,
        what: str,
        one: SimpleNamespace,
        description: str,
        port_id: str | None,
        fixed_ip_address: str | None = None,
    ) -> SimpleNamespace:
        self.calls.append((what, description))
        if port_id is not None and any(other.port_id == port_id for other in self.addresses.values() if other != one):
            raise _refused(
                ConflictException,
                409,
                f"Cannot associate floating IP {one.floating_ip_address} ({one.id}) with port {port_id} using fixed IP "
                f"{fixed_ip_address}, as that fixed IP already has a floating IP on external network id-{OUTSIDE}.",
            )
        one.description, one.port_id, one.fixed_ip_address = description, port_id, fixed_ip_address
        return one

    def _get(self, id: str) -> SimpleNamespace:
        found = next((one for one in self.addresses.values() if one.id == id), None)
        if found is None:
            raise _refused(NotFoundException, 404, f"Floating IP {id} could not be found")
        return found

    def _port_of(self, address: str) -> str:
        return f"port-{address}"

    def _answer(self) -> None:
        if self.silent:
            raise ConnectFailure("Unable to establish connection to http://neutron.test:9696/")


def _refused(kind: type[HttpException], status: int, text: str) -> HttpException:
    response = requests.Response()
    response.status_code = status
    return kind(text, response=response)


@dataclass
class Posing:
    """A router of floating addresses in a Neutron that poses; `sick` are targets that do not answer."""

    home: Path
    cloud: PosingNeutron = field(default_factory=PosingNeutron)
    sick: set[Target] = field(default_factory=set)
    reserved: dict[str, str] = field(default_factory=dict)
    room: Room = field(default_factory=Room)

    def router(self) -> FloatingRouter:
        """A fresh one, as of another process."""
        neutron = Neutron("front", "lab", Account("shop"), INSIDE, OUTSIDE, lambda _: self.cloud.connection)
        return FloatingRouter(
            "front", self.home, "lab", neutron, self.reserved, self.room, lambda target, _: target not in self.sick
        )
