"""How long an environment of real nodes takes, from the request in the books to a command done on every node."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from pipeline.domain.blueprint import EnvironmentSpec, Priority, RoleSpec
from pipeline.domain.environments import Environment, EnvironmentState, planned_nodes
from pipeline.envs import jobs
from pipeline.envs.access import access_of
from pipeline.envs.gate import Asking
from pipeline.ports.common import Limits
from pipeline.ports.transports import Connection
from tests.bench.figures import Figure, median
from tests.tools.deployed import LOCAL, Deployed, running

TRIES = 15
AT_ONCE = 20
NODES = 3
PATIENCE_S = 60.0
LOOK_S = 0.005
LIMITS = Limits(total_s=30, silence_s=30)
SPEC = EnvironmentSpec("debian-12", (RoleSpec("web", count=NODES, size="tiny"),))
#: The index of environments that are no more.
FINAL = "environments:final"
E = EnvironmentState


def measure() -> Iterator[Figure]:
    with running(provider={**LOCAL, "max_nodes": AT_ONCE * NODES}) as up:
        _single(up)  # the first one of a deployment also makes what all share
        singles = [_single(up) for _ in range(TRIES)]
        what = f"{NODES} nodes, from the request to a command done on all, median of {TRIES}"
        yield Figure("local_env", median([usable for usable, _ in singles]), "s", what, "< 0.7")
        yield Figure("local_env_destroy", median([gone for _, gone in singles]), "s", "until all is gone", "< 0.5")
        many = _Bench(up)
        what = f"{AT_ONCE} environments of {NODES} nodes asked for at once, a command done on all nodes"
        yield Figure("local_env_many", many.usable(AT_ONCE), "s", what, "< 8")
        yield Figure("local_env_many_destroy", many.gone(AT_ONCE), "s", "all of them given back at once")


def _single(up: Deployed) -> tuple[float, float]:
    bench = _Bench(up)
    return bench.usable(1), bench.gone(1)


class _Bench:
    """Some environments, asked for and given back as the stages of a run do."""

    def __init__(self, up: Deployed) -> None:
        self._up = up
        self._app = up.app
        self._ids: list[str] = []

    def usable(self, count: int) -> float:
        """Seconds from the requests until a command was done on every node of all of them."""
        began = time.perf_counter()
        self._ids = [self._request() for _ in range(count)]
        with ThreadPoolExecutor(count * NODES) as pool:
            done = [pool.map(self._command, *one) for one in self._as_they_come(E.READY)]
            if any(status != 0 for statuses in done for status in statuses):
                raise RuntimeError("a command failed on a node")
        return time.perf_counter() - began

    def gone(self, count: int) -> float:
        """Seconds from giving them back until all are destroyed."""
        began = time.perf_counter()
        for id in self._ids[:count]:
            self._app.reaper.take_back(id, Asking("bench", "the measurement is over"))
        for _ in self._settled(E.DESTROYED):
            pass
        return time.perf_counter() - began

    def _request(self) -> str:
        now = self._app.clock.now()
        environment = Environment(
            id=self._app.ids.new("env"),
            project="bench",
            service="bench",
            owner="",
            provider="local",
            state=E.REQUESTED,
            nodes=planned_nodes(SPEC),
            priority=Priority.INTERACTIVE,
            created_at=now,
            state_since=now,
            ends_at=now + 3600,
        )
        self._app.books.commit(self._app.books.environments.kind.put(environment.id, environment, 0), jobs=[jobs.ADMIT])
        return environment.id

    def _as_they_come(self, state: EnvironmentState) -> Iterator[tuple[Sequence[Connection], Sequence[str]]]:
        for environment in self._settled(state):
            access = access_of(environment, self._app.secrets)
            with self._app.transport.connect(access) as connection:
                yield [connection] * NODES, [node.name for node in access.nodes]

    def _settled(self, state: EnvironmentState) -> Iterator[Environment]:
        """Each environment as soon as it is in the state; looking must cost little, for it delays what is measured."""
        deadline = time.monotonic() + PATIENCE_S
        waiting = set(self._ids)
        while waiting:
            settled = waiting & set(self._app.store.index("environments:ending" if state is E.READY else FINAL))
            for loaded in self._app.books.environments.many(sorted(settled)):
                waiting.remove(loaded.value.id)
                yield loaded.value
            if time.monotonic() > deadline:
                left = [loaded.value for loaded in self._app.books.environments.many(sorted(waiting))]
                said = "; ".join(f"{one.id} is {one.state} {one.reason} {one.fault}".strip() for one in left)
                raise TimeoutError(f"not {state} after {PATIENCE_S:g} s: {said}\n{self._up.said()}")
            time.sleep(LOOK_S)

    @staticmethod
    def _command(connection: Connection, node: str) -> int:
        return connection.run(node, "true", limits=LIMITS, output=lambda _: None)
