"""What the driver asks of a provider of Vagrant: all that Vagrant itself does not tell, or tells late and wrongly."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pipeline.adapters.drivers.vagrant.place import Place
from pipeline.ports.drivers import Capabilities, EnvironmentRequest, NodeRequest

#: Lets Vagrant have a box, from a directory in which it may be called: the name, the file.
AddBox = Callable[[Place, str, Path], None]


@dataclass(frozen=True)
class Found:
    """A machine that bears our mark, as the provider shows it; `id` is how Vagrant knows it, the rest as in `NodeView`.

    One that runs has an address, or something is still to be done with it. `fault`: it will not run, and another place
    may be better; empty where the provider gives nothing up.
    """

    environment_id: str
    node: str
    id: str
    running: bool
    address: str | None = None
    inside_address: str = ""
    addresses: Mapping[str, str] = field(default_factory=dict)
    machine: str = ""
    fault: str = ""
    full: bool = False


class Provider(Protocol):
    """One provider of Vagrant, for one deployment."""

    @property
    def name(self) -> str:
        """Vagrant's name of it, and that of its folder among the templates."""

    @property
    def capabilities(self) -> Capabilities:
        """What its machines can do, and the images at hand."""

    def missing(self) -> Sequence[str]:
        """What is to be installed or done before it works: one sentence each."""

    def mistakes(self) -> Sequence[str]:
        """What is wrong with the settings, as far as the provider has to be asked for it: one sentence each."""

    def admit(self, request: EnvironmentRequest, nodes: Sequence[NodeRequest]) -> None:
        """CapacityError when these of a request do not fit; PermanentError when they never will.

        Asked before Vagrant, and once more when that failed.
        """

    def found(self) -> Sequence[Found]:
        """Every machine of this deployment, asked of the provider and not of Vagrant."""

    def environments(self) -> Mapping[str, float]:
        """Environments of which anything exists, and when their leases end (epoch seconds; 0: unknown)."""

    def prepare(
        self, place: Place, request: EnvironmentRequest, nodes: Sequence[NodeRequest], standing: Sequence[Found]
    ) -> Mapping[str, Mapping[str, Any]]:
        """Make what these nodes need around them; what the provider's piece of the Vagrantfile reads of each.

        May be repeated. `standing` are the environment's machines that are there already.
        """

    def turns(self, nodes: Sequence[NodeRequest]) -> Sequence[Sequence[NodeRequest]]:
        """Those that Vagrant may make at a time, one turn after the other."""

    def settle(self, request: EnvironmentRequest) -> None:
        """Give machines that run what Vagrant cannot; may be repeated."""

    def known(self, found: Found) -> Mapping[str, Any]:
        """The same of a machine that is there, enough to remove it."""

    def reason(self, place: Place, found: Found) -> str:
        """Why a machine does not run, in the provider's own words; empty when it says nothing."""

    def remove(self, found: Found) -> None:
        """Remove a machine without Vagrant; one that is gone is no error."""

    def release(self, environment_id: str, nodes: Sequence[str] | None) -> None:
        """Remove what was made around machines that are gone: these, or with None all of the environment.

        Nothing there is no error.
        """

    def mark_end(self, environment_id: str, ends_at: float) -> None:
        """Let `environments` tell another end (epoch seconds) of an environment. Nothing there is no error."""
