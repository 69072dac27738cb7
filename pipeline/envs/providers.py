"""Providers, as the use cases of environments know them."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipeline.domain.milestones import Deadlines
from pipeline.ports.clouds import Cloud, Estate, Grounds
from pipeline.ports.drivers import Driver
from pipeline.ports.snapshots import Snapshots
from pipeline.ports.transports import Transport


@dataclass(frozen=True)
class Provider:
    """A configured account that one driver uses. A build that takes longer than its `deadlines` is given up.
    `max_builds`: environments that may be built at a time; None: any number. `cloud` tells of servers beside our own,
    if anything does; `estate` is what operators may change of it, and `grounds` what projects get of it, if they may.
    `snapshots` keeps disks of its nodes, if anything can.
    Every `sync_s` seconds its servers are compared with the books. Every `visit_s` its registered machines are greeted;
    None: it takes none.
    """

    name: str
    driver: Driver
    transport: Transport
    max_nodes: int = 100
    deadlines: Deadlines = field(default_factory=Deadlines)
    poll_s: float = 1.0
    probe_s: float = 5.0
    max_builds: int | None = None
    cloud: Cloud | None = None
    estate: Estate | None = None
    grounds: Grounds | None = None
    snapshots: Snapshots | None = None
    sync_s: float = 60.0
    visit_s: float | None = None
