"""What a cloud has, by name: asked for once, and forgotten after a while or when the cloud says that it is wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.adapters.drivers.openstack.flavors import Flavor
from pipeline.clients.openstack import may_be_stale, told, zones_of
from pipeline.domain.errors import PermanentError

if TYPE_CHECKING:
    from openstack.connection import Connection

T = TypeVar("T")
#: How long a name keeps its meaning, in seconds: images and flavors are replaced by others of the same name.
KEPT_S = 300.0


class Names:
    """Looks names up; any number of threads at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._known: dict[str, tuple[float, object]] = {}

    def forget(self) -> None:
        """Ask again next time."""
        with self._lock:
            self._known.clear()

    def afresh(self, act: Callable[[], None]) -> None:
        """Do it, and once more where it was refused while names were known from before: they may mean something else
        now, and whoever called would never try again.
        """
        with self._lock:
            knew = bool(self._known)
        try:
            self._forgetting(act)
        except PermanentError as error:
            if not (knew and may_be_stale(error)):
                raise
            self._forgetting(act)

    def _forgetting(self, act: Callable[[], None]) -> None:
        try:
            act()
        except PermanentError:
            self.forget()
            raise

    def network(self, name: str) -> str:
        """The id of a network; PermanentError when there is none of that name, or several."""
        return self._id("network", name, lambda: list(self._connection.network.networks(name=name)))

    def external(self, name: str) -> str:
        """The id of a network that has floating addresses; PermanentError as above."""
        ask = self._connection.network.networks
        return self._id("external network", name, lambda: list(ask(name=name, is_router_external=True)))

    def image(self, name: str) -> str:
        """The id of an image; PermanentError as above."""
        return self._id("image", name, lambda: list(self._connection.image.images(name=name)))

    def snapshot(self, name: str, image: str) -> str:
        """The id of the image of a snapshot; PermanentError as above."""
        return self._id("snapshot", name, lambda: list(self._connection.image.images(name=image)))

    def flavors(self) -> Sequence[Flavor]:
        """Every flavor that the account may use, with its extra specs."""
        return self._once("flavors", "listing flavors", self._ask_flavors)

    def zones(self) -> Mapping[str, bool]:
        """The availability zones, and whether each takes servers now."""
        return self._once("zones", "listing availability zones", lambda: zones_of(self._connection))

    def _ask_flavors(self) -> Sequence[Flavor]:
        return [Flavor.of(one) for one in self._connection.compute.flavors(details=True, get_extra_specs=True)]

    def _id(self, kind: str, name: str, ask: Callable[[], list[Any]]) -> str:
        found = self._once(f"{kind} {name}", f"looking for {kind} {name}", ask)
        if not found:
            raise PermanentError(
                f"there is no {kind} {name!r} in the cloud: create it, or name another in the settings"
            )
        if len(found) > 1:
            ids = ", ".join(sorted(one.id for one in found))
            raise PermanentError(f"there are {len(found)} {kind}s {name!r} in the cloud ({ids}): rename all but one")
        return str(found[0].id)

    def _once(self, key: str, what: str, ask: Callable[[], T]) -> T:
        with self._lock:
            known = self._known.get(key)
        if known is not None and time.monotonic() - known[0] < KEPT_S:
            return known[1]  # type: ignore[return-value]  # what was kept under a key is what its question answers
        with told(what):
            answer = ask()
        with self._lock:
            self._known[key] = (time.monotonic(), answer)
        return answer
