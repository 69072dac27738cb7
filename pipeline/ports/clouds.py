"""Clouds tell what there is beyond our own nodes: all servers that an account may see, and the machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pipeline.domain.cloud_acts import CloudObject, ObjectKind
from pipeline.domain.cloud_setups import CloudSetup, Found, Part
from pipeline.domain.drift import Server
from pipeline.domain.inventory import Inventory
from pipeline.domain.leftovers import Thing
from pipeline.domain.moving_off import How, Trial
from pipeline.ports.common import Secret


@dataclass(frozen=True)
class Sight:
    """What a cloud shows at one time.

    `inventory` has what the cloud itself counts: nobody's use is taken off. It is None where the account may not see
    machines. `used`: what all servers, of whomever, take of a machine, by dimension. `zones`: all that it has.
    """

    servers: tuple[Server, ...] = ()
    inventory: Inventory | None = None
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    zones: frozenset[str] = frozenset()


class Cloud(Protocol):
    """What a provider's cloud knows. Called about once a minute; by several processes at once, too."""

    def look(self) -> Sight:
        """What there is now, ours or not; servers first, so that one that comes meanwhile counts as somebody's.

        TransientError (again later), PermanentError.
        """

    def things(self) -> Sequence[Thing]:
        """Objects in the projects of the provider's accounts, and whether each is used: only when somebody asks.

        What a project sees and does not own, as shared networks and public images, is none. Errors as above.
        """

    def close(self) -> None:
        """Give back connections; it is not used afterwards."""


class Estate(Protocol):
    """What an operator may change of a cloud itself. Every method may raise TransientError (again later) and
    PermanentError; called by one worker at a time for each act, after the gate.
    """

    def find(self, kind: ObjectKind, name: str) -> CloudObject:
        """The object of that name or id; UserError when there is none, or several, whose ids it names."""

    def users(self, one: CloudObject) -> Sequence[str]:
        """What uses it now, in whichever project: servers of a flavor or an image or on a machine, ports of a network.

        Each is told in words, with its id and its project.
        """

    def delete(self, one: CloudObject) -> None:
        """Delete a flavor, an image or a network; one that is gone is no error."""

    def stands(self, one: CloudObject) -> bool:
        """Whether it is still there."""

    def in_service(self, machine: CloudObject) -> bool:
        """Whether the cloud may put servers on a machine."""

    def set_service(self, machine: CloudObject, *, on: bool, reason: str) -> None:
        """Let the cloud put servers on a machine, or no more; those on it stay. On, it counts as alive again, too."""

    def alive(self, machine: CloudObject) -> bool:
        """Whether the cloud counts a machine's agent as alive."""

    def count_as_dead(self, machine: CloudObject) -> None:
        """Let the cloud count it as dead, whatever its agent says; it must be dead."""

    def servers_on(self, machine: CloudObject) -> Sequence[Server]:
        """The servers on a machine now, of whichever project."""

    def server(self, id: str) -> Server | None:
        """One server as it is now; None when there is none."""

    def move(self, id: str, how: How) -> None:
        """Tell the cloud to move a server to wherever it chooses, and return; `last_trial` tells how that went."""

    def confirm(self, id: str) -> None:
        """Let a server stay where a cold migration put it; nothing when that was said already."""

    def last_trial(self, id: str) -> Trial | None:
        """The last try to move a server that the cloud keeps, by whomever; None when there was none."""

    def close(self) -> None:
        """Give back connections; it is not used afterwards."""


class Grounds(Protocol):
    """What projects have of a cloud for themselves, as an administrator's account finds and makes it.

    Every method may raise TransientError (again later) and PermanentError; called by one worker at a time for each
    setup, after the gate.
    """

    def find(self, setup: CloudSetup) -> Found:
        """What is there, ours or not; of what hangs on a part that is missing, nothing. UserError when there are
        several of a name.
        """

    def check(self, setup: CloudSetup) -> None:
        """UserError when the external network of a setup is not there, which nobody makes: asked before its first part
        is made, where a router is wanted.
        """

    def make(self, part: Part, setup: CloudSetup, found: Found, secret: Secret) -> None:
        """Make a part, or what is missing of it; those before it are in `found`. Once more, it may be there already.

        `secret` becomes the credential's. A credential of the setup's name is replaced.
        """

    def entry(self, found: Found) -> Mapping[str, str]:
        """What an entry of a clouds.yaml says beside the secret: where the cloud is, and which credential it is."""

    def close(self) -> None:
        """Give back connections; it is not used afterwards."""
