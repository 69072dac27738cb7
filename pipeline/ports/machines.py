"""Registered machines: their books, and hands on them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.domain.registered import Registered, Wanted


@dataclass(frozen=True)
class Marks:
    """What a machine says of itself: the `owner` deployment that has it registered, and the last turn it heard of.

    `lease` is the environment, the node and the lease's end of whoever has it; empty strings: nobody.
    """

    owner: str = ""
    turn: int = 0
    environment: str = ""
    node: str = ""
    ends_at: float = 0.0


class Stock(Protocol):
    """The registered machines of one provider, as the books have them; any number of callers at once."""

    def machines(self) -> Sequence[Registered]:
        """All of them."""

    def claim(self, deployment: str, environment_id: str, ends_at: float, wanted: Sequence[Wanted]) -> None:
        """Lease free machines to those of the wanted nodes that have none: all of them in one write, or none.

        CapacityError when one is not free, PermanentError when there is none of that name or image.
        """

    def opened(self, environment_id: str, faults: Mapping[str, str]) -> None:
        """Note for machines of an environment, by their names, that their keys are installed (empty), or why not."""

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Note another end (epoch seconds) in all leases of an environment."""

    def give_back(self, environment_id: str, nodes: Collection[str] | None) -> Sequence[Registered]:
        """End leases of an environment (None: all); the machines, which are dirty now, and will be cleaned."""


class MachineHands(Protocol):
    """What is done on machines themselves, with the service's own key.

    Any call may be repeated, and calls for different machines may run at once. Errors: TransientError (it does not
    answer), PermanentError (another host key, a refused login, no root), InvalidTransition (the machine heard of a
    later turn than this one; nothing was done).
    """

    def key(self) -> str:
        """The public key that machines must let in, as one line."""

    def shown_host_key(self, address: str, port: int) -> str:
        """The host key that whoever answers there shows (`ssh-ed25519 AAAA…`), believed by nobody yet."""

    def greet(self, machines: Sequence[Registered]) -> Mapping[str, str]:
        """Log in to all at once: the name of each that could not be, and why."""

    def look(self, machine: Registered) -> Marks:
        """Log in, become root, and read what the machine says of itself."""

    def hand_over(self, machine: Registered, keys: Sequence[str]) -> None:
        """Let these keys log in as root, and nobody else but the service; mark it with its lease."""

    def mark(self, machine: Registered) -> None:
        """Mark it with its lease as that is now; who may log in stays so."""

    def take_back(self, machine: Registered) -> None:
        """Let nobody log in but the service, end every other session, and take the lease's mark away."""

    def reset(self, machine: Registered) -> None:
        """Run its reset command. PermanentError with the command's last words when it fails or takes too long."""

    def forget(self, machine: Registered) -> None:
        """Remove the deployment's marks."""
