"""A worker that makes an environment with Vagrant until somebody kills it; what it needs is on its standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from pipeline.domain.qos import QosProfile
from pipeline.domain.resources import Resources
from pipeline.ports.common import Secret
from pipeline.ports.drivers import EnvironmentRequest, NodeRequest
from tests.plugins.vagrant_nodes import VagrantNodes


def main() -> None:
    said = json.load(sys.stdin)
    size = Resources(vcpu=0.5, memory_mib=64, disk_gib=1)
    nodes = tuple(
        NodeRequest(name, "web", "debian-12", size, QosProfile(), Secret(said["host"]), said["public"])
        for name in ("web-0", "web-1")
    )
    driver = VagrantNodes(Path(said["home"]), said["deployment"]).driver()
    driver.create(EnvironmentRequest(said["deployment"], "env-1", "shop", said["login"], 2e9, nodes))


if __name__ == "__main__":
    main()
