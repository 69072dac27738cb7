"""`python -m tests.bench [NAME …]`: measure, one JSON line a figure."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping

from tests.bench import (
    cold,
    intake,
    leases,
    local_env,
    memory,
    move,
    openstack,
    placement,
    placement_lag,
    placement_reserved,
    placement_vs_nova,
    preemption,
    promote,
    run_overhead,
    scale,
    warm,
)
from tests.bench.figures import Figure

BENCHES: Mapping[str, Callable[[], Iterator[Figure]]] = {
    "intake": intake.measure,
    "run_overhead": run_overhead.measure,
    "memory": memory.measure,
    "local_env": local_env.measure,
    "cold": cold.measure,
    "warm": warm.measure,
    "leases": leases.measure,
    "placement_lag": placement_lag.measure,
    "placement_vs_nova": placement_vs_nova.measure,
    "placement": placement.measure,
    "preemption": preemption.measure,
    "promote": promote.measure,
    "scale": scale.measure,
    "move": move.measure,
    "openstack": openstack.measure,
    "placement_reserved": placement_reserved.measure,
}


def main(names: list[str]) -> int:
    """Measure what is named, or all; 2 for a name that is none."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no bench {', '.join(unknown)}; there are: {', '.join(BENCHES)}\n")
        return 2
    for name in names or BENCHES:
        for figure in BENCHES[name]():
            sys.stdout.write(figure.line() + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
