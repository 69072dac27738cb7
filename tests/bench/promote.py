"""`promote`: promotions and rollbacks of a staging under a load at a fixed rate.

The books, the tick's rounds, the router's port and HAProxy are the real ones; both slots are servers on loopback. Load
and slots are processes of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from pipeline.adapters.clock import SystemClock
from pipeline.domain.stagings import SlotName
from tests.bench.figures import Figure, median, p99
from tests.bench.steady import RATE
from tests.plugins.haproxy import Haproxy, free_port
from tests.tools.stagings import HOST, NAME, Lab, lab

CHANGES = int(os.environ.get("GREENROOM_BENCH_CHANGES", "200"))
#: Between two changes; after every 21st the drain comes to its bound, where WebSockets end.
PAUSE_S, DRAIN_S, LONG_EVERY = 0.3, 2.0, 21
WARM_UP_S, AFTER_S = 2.0, 4.0
ADDRESSES = {"blue": "127.0.0.2", "green": "127.0.0.3", "bad": "127.0.0.4"}


@dataclass(frozen=True)
class Line:
    """One request of the load; status 0: cut or refused."""

    kind: str
    sent: float
    done: float
    status: int
    slot: str

    @property
    def failed(self) -> bool:
        return self.kind.startswith("/") and self.status != 200


@dataclass(frozen=True)
class Change:
    """The router was told between two moments that `slot` is live."""

    began: float
    done: float
    slot: str


def measure() -> Iterator[Figure]:
    """All changes under the load; then a bad version that goes back by itself."""
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="greenroom-promote-")))
        haproxy, port = stack.enter_context(haproxy_in(home)), free_port()
        for word, address in ADDRESSES.items():
            stack.enter_context(process("slot_server", word, address, str(port)))
        made = lab(haproxy.router, SystemClock(), str(home / "scratch"), port=port, drain_s=DRAIN_S, watch_s=0.0)
        for slot in SlotName:
            made.stand(slot, f"env-{slot}", ADDRESSES[slot])
        made.promote()
        yield from _changes(haproxy.port, made)
        yield from _bad(haproxy.port, made)


def _changes(port: int, made: Lab) -> Iterator[Figure]:
    changes = [Change(0.0, 0.0, str(made.now().live))]
    with load_on(port) as load:
        made.until(time.time() + WARM_UP_S)
        for number in range(CHANGES):
            made.switching.round()  # its window of 0 s is over
            began = time.time()
            if number % 2:
                made.rollback()
            else:
                made.promote()
            changes.append(Change(began, time.time(), str(made.now().live)))
            made.until(time.time() + (DRAIN_S + 3 if number % LONG_EVERY == 0 else PAUSE_S))
        made.until(time.time() + AFTER_S)
        lines = end(load)
    if any(one.slot == other.slot for one, other in pairwise(changes)):
        raise SystemExit("a change did not change the live slot")
    yield from _figures(lines, changes, made.switch_times)


def _figures(lines: Sequence[Line], changes: Sequence[Change], took: Sequence[float]) -> Iterator[Figure]:
    asked = [line for line in lines if line.kind.startswith("/")]
    seconds = max(line.sent for line in asked) - min(line.sent for line in asked)
    told = (
        f"{len(changes) - 1} promotions and rollbacks in {seconds:.0f} s, {len(asked) / seconds:.0f} requests/s, "
        f"{sum(line.kind == '/slow' for line in asked)} of {len(asked)} take 3 s"
    )
    yield Figure("promote_failed", sum(line.failed for line in asked), "requests", told, "0")
    late = [line for line in asked if not line.failed and _reached_the_old_slot(line, changes)]
    yield Figure("promote_old_slot", len(late), "requests", "sent after a switch, answered by the old slot", "0")
    yield Figure("promote_switch_p50", 1000 * median(took), "ms", "the router is told", "100")
    yield Figure("promote_switch_max", 1000 * max(took), "ms", "the router is told", "100")
    fast = [line.done - line.sent for line in asked if line.kind == "/"]
    yield Figure("promote_latency_p99", 1000 * p99(fast), "ms", "a request through the router, all the while")
    ends = [_open_for(line, changes) for line in lines if line.kind == "ws"]
    many = sum(line.kind.startswith("ws") for line in lines)
    bound = f"the drain's bound of {DRAIN_S:.0f} s, and the tick's second; {len(ends)} of {many} WebSockets ended so"
    yield Figure("promote_websocket_min", min(ends), "s", bound, f">= {DRAIN_S:.0f}")
    yield Figure("promote_websocket_max", max(ends), "s", bound, f"<= {DRAIN_S + 1.5:.1f}")


def _reached_the_old_slot(line: Line, changes: Sequence[Change]) -> bool:
    """Whether it was sent between two changes, and another slot than the live one answered."""
    at = bisect_right([change.done for change in changes], line.sent) - 1
    during_next = at + 1 < len(changes) and line.sent >= changes[at + 1].began
    return not during_next and line.slot != changes[at].slot


def _open_for(line: Line, changes: Sequence[Change]) -> float:
    """How long after its slot had lost the traffic for the last time a WebSocket ended."""
    lost = [change.done for change in changes if change.done <= line.done and change.slot != line.slot]
    return line.done - max(lost, default=line.done)


def _bad(port: int, made: Lab) -> Iterator[Figure]:
    """A version of which every answer is an error."""
    staging = made.now()
    idle, live = staging.idle, str(staging.live)
    made.stand(idle, "env-bad", ADDRESSES["bad"])
    spec = made.now().spec
    made.stagings.put(NAME, type(spec)(**{**vars(spec), "watch_s": 60.0}))
    with load_on(port) as load:
        made.until(time.time() + WARM_UP_S)
        made.promote()
        began = time.time()
        while made.now().live is idle and time.time() < began + 30:
            made.until(time.time() + 0.999)
        back = time.time()
        made.until(time.time() + 1)
        lines = end(load)
    if str(made.now().live) != live:
        raise SystemExit(f"the bad version stayed: {made.now().history[-1]}")
    failed = [line for line in lines if line.failed]
    after = sum(line.sent > back for line in failed)
    window = max(line.sent for line in failed) - min(line.sent for line in failed)
    told = f"from the first request with an error to the last, of {len(failed)}; {made.now().history[-1].why}"
    yield Figure("promote_bad_window", window, "s", told)
    yield Figure("promote_bad_after", after, "requests", "errors that were asked for after it had gone back", "0")


@contextmanager
def haproxy_in(home: Path, targets: int = 3) -> Iterator[Haproxy]:
    haproxy = Haproxy(home, targets=targets)
    haproxy.start()
    try:
        yield haproxy
    finally:
        haproxy.stop()


@contextmanager
def process(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", f"tests.bench.{module}", *arguments]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextmanager
def load_on(port: int, rate: float = RATE) -> Iterator[subprocess.Popen[str]]:
    with process("steady", str(port), HOST, str(rate)) as load:
        yield load


def end(load: subprocess.Popen[str]) -> list[Line]:
    """Tell the load to end, and what became of each of its requests."""
    output, _ = load.communicate("end\n", timeout=60)
    return [Line(*json.loads(line)) for line in output.splitlines()]
