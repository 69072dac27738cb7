"""Whether a node is what was asked for: the suite that every acceptance of a machine runs."""

from __future__ import annotations

import json
import math
import os
import time
from typing import Any

import pytest
from testinfra.host import Host

#: What a system keeps for itself of the memory and the disk that were asked for.
OVERHEAD = 0.15
#: Seconds between the node's clock and Greenroom's.
CLOCK_S = 5.0
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], 22), 5).close()"
#: A container sees its machine's processors and memory, and is bounded by its group.
GROUP = "/sys/fs/cgroup/"


@pytest.fixture
def asked(host: Host) -> dict[str, Any]:
    """What was asked for this node."""
    found: dict[str, Any] = json.loads(os.environ["GREENROOM_ASKED"])[host.backend.get_hostname()]
    return found


def bound(host: Host, name: str) -> list[str]:
    """The words of a bound of the node's group; none where it has no such bound."""
    done = host.run("cat %s", GROUP + name)
    words = str(done.stdout).split() if done.rc == 0 else []
    return [] if words[:1] == ["max"] else words


def test_it_has_booted(host: Host) -> None:
    assert float(host.check_output("cat /proc/uptime").split()[0]) > 0


def test_memory_is_as_asked(host: Host, asked: dict[str, Any]) -> None:
    seen_kib = int(host.check_output("grep MemTotal /proc/meminfo").split()[1])
    bounds = [int(word) / 1024 for word in bound(host, "memory.max")]
    assert min([seen_kib, *bounds]) >= (1 - OVERHEAD) * asked["memory_mib"] * 1024


def test_vcpus_are_as_asked(host: Host, asked: dict[str, Any]) -> None:
    assert int(host.check_output("nproc")) >= math.ceil(asked["vcpu"])
    quota = bound(host, "cpu.max")
    assert not quota or int(quota[0]) / int(quota[1]) >= asked["vcpu"]


def test_disk_is_as_large_as_asked(host: Host, asked: dict[str, Any]) -> None:
    kib = int(host.check_output("df -Pk / | tail -1").split()[1])
    assert kib >= (1 - OVERHEAD) * asked["disk_gib"] * 1024**2


def test_disk_is_writable(host: Host) -> None:
    written = "f=$(mktemp -p /var/tmp) && echo accepted > $f && sync $f && cat $f; rm -f $f"
    assert host.check_output(written) == "accepted"


def test_clock_is_right(host: Host) -> None:
    before, told = time.time(), float(host.check_output("date +%s.%N"))
    assert before - CLOCK_S <= told <= time.time() + CLOCK_S


def test_network_reaches_the_other_nodes(host: Host, asked: dict[str, Any]) -> None:
    silent = [one for one in asked["others"] if host.run("python3 -c %s %s", CONNECT, one).rc]
    assert not silent
