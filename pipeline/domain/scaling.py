"""A change of the nodes of an environment that stands: what is wished, and how far it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.domain.milestones import Progress
from pipeline.domain.rules import PlacementRules


@dataclass(frozen=True)
class Move:
    """A role goes to other machines: `to` is the wish in words, such as `bare-metal` or `zone=rack-b`.

    `leaving` are the nodes whose place others take; when those are in service, they drain, and stand without traffic
    for `keep_s` more. `since` is when the last of these steps began (epoch seconds, 0: nobody came yet). `before` are
    the rules that the role had. `back` is why it goes back, if it does.
    """

    to: str
    leaving: tuple[str, ...]
    before: PlacementRules
    keep_s: float
    since: float = 0.0
    back: str = ""


@dataclass(frozen=True)
class Scaling:
    """A role of an environment is brought to `count` nodes; `who` wants it, and `why`. Times are epoch seconds.

    `coming` are the names of nodes that are built, `going` of those that are taken back; one of the two is empty.
    Nodes that go get no traffic any more, and stand until `drained_at`: `drain_s` after the routers had let them go; 0:
    some router may send traffic there still. `placed_at` is when those that come got their machines, 0 before, and
    `progress` how far their build is. `avoid` are the machines on which they failed, after which they were placed again
    `placed_again` times. `run` configures and deploys them; empty where there is nothing to do. `tries` counts faults
    of the provider. `replaces`: the nodes that come take the place of lost ones, and keep their names.
    `overrides` are guards that the nodes that go may pass, with the reasons. `moves`: as many nodes come elsewhere as
    are there, and when they are in service, those go.

    `reason` is what it waits for. `fault` is why what came is taken back again.
    """

    role: str
    count: int
    who: str
    why: str
    began_at: float
    coming: tuple[str, ...] = ()
    going: tuple[str, ...] = ()
    drained_at: float = 0.0
    drain_s: float = 0.0
    placed_at: float = 0.0
    progress: Progress | None = None
    avoid: tuple[str, ...] = ()
    placed_again: int = 0
    run: str = ""
    tries: int = 0
    replaces: bool = False
    moves: Move | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""
    fault: str = ""
