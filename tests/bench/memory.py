"""Resident memory of each process after work, and how quick the command line answers."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.deployment import deployment
from tests.bench.figures import Figure, median

PROCESSES = ["work", "provider memory", "tick"]
HELP_RUNS = 7


def measure() -> Iterator[Figure]:
    with deployment("default_provider = 'memory'\n[providers.memory]\ndriver = 'memory'\n", PROCESSES) as made:
        with made.client() as client:
            client.get("/openapi.json").raise_for_status()
            client.get("/v1/runs").raise_for_status()
        time.sleep(3)
        for name, process in made.processes.items():
            if name != "redis":
                yield Figure(f"memory_{name}", _resident_mb(process.pid), "MB", "resident", "< 150")
    yield Figure(
        "help_s", median([_help_s() for _ in range(HELP_RUNS)]), "s", "greenroom --help, whole process", "< 0.4"
    )


def _resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1000


def _help_s() -> float:
    greenroom = Path(sys.executable).parent / "greenroom"
    began = time.perf_counter()
    subprocess.run([str(greenroom), "--help"], check=True, capture_output=True)
    return time.perf_counter() - began
