"""`scale`: a role of a live slot from 1 node to 10 and back to 1 under a load at a fixed rate.

The books, the tick's rounds, the workers' steps, placement, the router's port and HAProxy are the real ones. Each node
is a server on loopback, a process of its own that starts with the node and is killed with it; so is the load.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Figure, p99
from tests.bench.promote import Line, end, haproxy_in, load_on
from tests.plugins.haproxy import free_port
from tests.tools.served import Served, served

MOST = 10
#: Requests that take 3 s end before the drain does; the load goes on with all nodes for a while.
DRAIN_S, CALM_S = 5.0, 4.0


def measure() -> Iterator[Figure]:
    """One way out and back, under the load."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-scale-")))
        haproxy = stack.enter_context(haproxy_in(home, targets=16))
        slot = stack.enter_context(served(haproxy.router, home / "scratch", free_port(), DRAIN_S))
        with load_on(haproxy.port) as load:
            slot.run(CALM_S)
            grown_s = slot.scale(MOST)
            machines = {node.machine for node in slot.environment.nodes}
            slot.run(CALM_S)
            shrunk_s = slot.scale(1)
            slot.run(CALM_S)
            lines = end(load)
        yield from _figures(lines, slot, grown_s, shrunk_s, len(machines))


def _figures(lines: Sequence[Line], slot: Served, grown_s: float, shrunk_s: float, machines: int) -> Iterator[Figure]:
    asked = [line for line in lines if line.kind.startswith("/")]
    seconds = max(line.sent for line in asked) - min(line.sent for line in asked)
    told = (
        f"1 to {MOST} to 1 nodes in {seconds:.0f} s, {len(asked) / seconds:.0f} requests/s, "
        f"{sum(line.kind == '/slow' for line in asked)} of {len(asked)} take 3 s"
    )
    yield Figure("scale_failed", sum(line.failed for line in asked), "requests", told, "0")
    yield Figure(
        "scale_nodes", len({line.slot for line in asked if line.slot}), "nodes", "answered requests", str(MOST)
    )
    yield Figure(
        "scale_machines", machines, "machines", f"that {MOST} nodes stood on, with room for one each", str(MOST)
    )
    yield Figure("scale_out", grown_s, "s", "from the wish until all are up at the router")
    yield Figure("scale_in", shrunk_s, "s", f"from the wish until one stands; {DRAIN_S:.0f} s of it are the drain")
    fast = [line.done - line.sent for line in asked if line.kind == "/"]
    yield Figure("scale_latency_p99", 1000 * p99(fast), "ms", "a request through the router, all the while")
    if len(slot.environment.nodes) != 1:
        raise SystemExit(f"it has not one node again: {slot.environment}")
