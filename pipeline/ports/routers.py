"""Routers send traffic to environments."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol

from pipeline.domain.traffic import Backend, Reading


class Router(Protocol):
    """One router. Any number of callers at once, from any number of processes.

    What it was told outlives its own end: it serves the same when it starts again. Every method may raise
    TransientError when it cannot be asked or told; the same call may then be made again, and does no more than one.
    """

    @property
    def name(self) -> str:
        """As people know it; constant."""

    def register(self, backend: Backend) -> None:
        """Know what answers for an environment, and look whether it is well. Asked again: targets that stay are not
        touched; one that is left out gets no new request, and what is open there goes on. Its own host, if it has one,
        leads there from now on, also where another environment had it before. UserError: what cannot be told to a
        router. CapacityError: it has no room for another backend, or for so many targets.
        """

    def forget(self, environment: str) -> None:
        """Know it no more; nothing when it is not known. InvalidTransition while a host is switched to it."""

    def known(self) -> Mapping[str, Backend]:
        """The environments that are registered, and what answers for each now, as the router itself says; its targets
        in any order. One that a process died over while it was registered shows what was told until then.
        """

    def switch(self, host: str, environment: str) -> None:
        """Send every request for a host that comes from now on to an environment, in one change; open ones end where
        they are. Requests on connections that are kept alive follow where the router sees them. NotFound: it is not
        registered. CapacityError: the environment has no room for another host.
        """

    def unroute(self, host: str) -> None:
        """Send requests for a host that was switched nowhere; nothing when it was not."""

    def routes(self) -> Mapping[str, str]:
        """Where hosts are switched to now, as the router itself says. An environment's own host is not among them."""

    def address_of(self, host: str) -> str:
        """The IP address that a DNS record of a host has to name, as the router itself says. Empty: it has none now, or
        every host leads to where the router listens.
        """

    def leads(self, host: str) -> bool:
        """Whether requests for a host are sent anywhere, as the router itself says: False where it knows no such host,
        or every node that could answer for it answers for another one.
        """

    def serving(self) -> Collection[str]:
        """Ids of the environments to which a host is switched now."""

    def reading(self, environment: str) -> Reading:
        """What it counts of an environment. NotFound: it is not registered. A router that does not see what is open
        says that something is, and counts no answers.
        """

    def cut(self, environment: str) -> None:
        """End all that is still open there, as at the bound of a drain, where the router can; nothing when it is not
        known.
        """
