"""Many processes and one delete budget on one real Redis: nobody spends what another one has spent."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.adapters.clock import SystemClock
from pipeline.adapters.stores.redis import RedisStore
from pipeline.domain.errors import GuardRefused, VersionConflict
from pipeline.domain.guards import Act, Facts
from pipeline.envs.books import Books
from pipeline.envs.gate import AUDIT, TICK, Asking, Budget, Gate
from tests.plugins.redis_server import RedisServer

PROCESSES = 4
ACTS = 25
EACH = 20


@pytest.mark.redis
def test_a_budget_is_never_overspent(redis_server: RedisServer) -> None:
    def turn(number: int) -> int:
        books = Books(RedisStore(redis_server.client()))
        gate = Gate(books, SystemClock(), {"cloud": Budget(acts=ACTS, interval_s=600)})
        return sum(_passes(gate, f"env-{number}-{at}") for at in range(EACH))

    with ThreadPoolExecutor(PROCESSES) as pool:
        passed = list(pool.map(turn, range(PROCESSES)))
    told = RedisStore(redis_server.client()).events(AUDIT)
    assert sum(passed) == ACTS
    assert len([event for event in told if "refused" not in event.data]) == ACTS
    assert len([event for event in told if "refused" in event.data]) == 1


def _passes(gate: Gate, target: str) -> bool:
    while True:
        try:
            gate.pass_(Act.REAP, target, Facts(TICK, provider="cloud"), Asking(TICK, "leaked", again=True))
        except GuardRefused:
            return False
        except VersionConflict:  # too many were first, one after the other
            continue
        return True
