"""`move`: a role of a live slot from virtual machines to bare metal and back under a load at a fixed rate.

As in `scale`, all but the nodes is real; a node is a server on loopback, a process that lives as long as the node. Bare
metal is registered machines, leased whole.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, p99
from tests.bench.promote import end, haproxy_in, load_on
from tests.plugins.haproxy import free_port
from tests.tools.served import KEEP_S, served

NODES = 3
#: Requests that take 3 s end before the drain does.
DRAIN_S, CALM_S = 5.0, 3.0


def measure() -> Iterator[Figure]:
    """There and back, under the load."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-move-")))
        haproxy = stack.enter_context(haproxy_in(home, targets=16))
        slot = stack.enter_context(served(haproxy.router, home / "scratch", free_port(), DRAIN_S, registered=NODES))
        slot.scale(NODES)
        with load_on(haproxy.port) as load:
            slot.run(CALM_S)
            there_s, metal = slot.move("bare-metal"), slot.kinds()
            slot.run(CALM_S)
            back_s, virtual = slot.move("vm"), slot.kinds()
            slot.run(CALM_S)
            lines = end(load)
    asked = [line for line in lines if line.kind.startswith("/")]
    seconds = max(line.sent for line in asked) - min(line.sent for line in asked)
    told = (
        f"{NODES} nodes from VMs to bare metal and back in {seconds:.0f} s, {len(asked) / seconds:.0f} requests/s, "
        f"{sum(line.kind == '/slow' for line in asked)} of {len(asked)} take 3 s"
    )
    yield Figure("move_failed", sum(line.failed for line in asked), "requests", told, "0")
    answered = len({line.slot for line in asked if line.slot})
    yield Figure("move_nodes", answered, "nodes", "answered requests: virtual ones, and bare metal", str(2 * NODES))
    held = f"from the wish until the old nodes are gone; {DRAIN_S + KEEP_S:.0f} s of it they drain and stand"
    yield Figure("move_to_bare_metal", there_s, "s", held)
    yield Figure("move_to_vm", back_s, "s", held)
    fast = [line.done - line.sent for line in asked if line.kind == "/"]
    yield Figure("move_latency_p99", 1000 * p99(fast), "ms", "a request through the router, all the while")
    if (metal, virtual) != (["bare-metal"], ["hypervisor"]):
        raise SystemExit(f"the nodes stood on {metal}, then on {virtual}")
