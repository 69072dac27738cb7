"""A process that builds one environment and kills itself before its n-th call: `python -m tests.openstack.doomed`.

Reads one JSON object: the account's file and entry, the network, the image, the deployment, the environment's id, when
its lease ends, the locks' directory, the keys, `virtual` (an address that its nodes share beside a network of their
own, empty: neither), and `calls`, before the last of which it dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from keystoneauth1.session import Session

from pipeline.adapters.drivers.openstack.driver import OpenStackDriver
from pipeline.adapters.drivers.openstack.terms import Terms
from pipeline.clients.openstack import Account
from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.domain.wiring import Attachment, Network, Wiring
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest

SMALL = Resources(vcpu=1, memory_mib=64, disk_gib=1)
ZONES = ("rack-A-1", "rack-A-2")
#: What every second delivery has beside the common network.
OWN = Network("back", cidr="10.40.0.0/24")


def die_before(calls: int) -> None:
    """Count what goes to the cloud."""
    ask, left = Session.request, [calls]

    def counted(self: Session, *args: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return ask(self, *args, **more)

    Session.request = counted  # type: ignore[method-assign]  # this process alone


def request(told: dict[str, Any]) -> EnvironmentRequest:
    """Two nodes in two zones, kept apart."""
    host_key, rich = Secret(told["host_key"]), bool(told["virtual"])
    nodes = tuple(
        NodeRequest(
            f"web-{at}",
            "web",
            "plain",
            SMALL,
            QosProfile(),
            host_key,
            told["host_public"],
            zone=zone,
            wiring=Wiring((Attachment(OWN.name),), virtual_address=told["virtual"]) if rich else Wiring(),
            per_machine=1,
        )
        for at, zone in enumerate(ZONES)
    )
    return EnvironmentRequest(
        told["deployment"],
        told["id"],
        "shop",
        told["login"],
        told["ends_at"],
        nodes,
        networks=(OWN,) if rich else (),
    )


def main() -> None:
    told = json.load(sys.stdin)
    terms = Terms(told["network"], external_network=told["external"], floating=True, images={"plain": told["image"]})
    account = Account(told["cloud"], told["file"])
    driver = OpenStackDriver(told["deployment"], account, {}, terms, Path(told["locks"]))
    die_before(told["calls"])
    driver.create(request(told))


if __name__ == "__main__":
    main()
