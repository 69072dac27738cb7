"""What Greenroom itself costs: runs with five empty stages on the memory driver."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.bench.deployment import deployment
from tests.bench.figures import Figure, median, p99

BLUEPRINT = """\
version: 1
service: empty
environment:
  image: debian-12
  roles:
    web: {count: 1}
test: []
"""
SINGLES = 40
SUSTAINED = 120
RATE = 8.0
PROCESSES = ["work", "work", "provider memory", "provider memory", "tick"]


def measure() -> Iterator[Figure]:
    with (
        tempfile.TemporaryDirectory() as repository,
        deployment("default_provider = 'memory'\n[providers.memory]\ndriver = 'memory'\n", PROCESSES) as made,
        made.client() as client,
    ):
        sha = _repository(Path(repository))
        client.post("/v1/projects", json={"name": "bench", "repository": repository}).raise_for_status()
        _raise_limit(client)
        singles = [_one(client, sha) for _ in range(SINGLES)][3:]
        what = "from the 202 to finished, five empty stages"
        yield Figure("run_overhead_median", median(singles) * 1000, "ms", what, "< 300")
        yield Figure("run_overhead_p99", p99(singles) * 1000, "ms", what, "< 1000")
        yield Figure("run_overhead_rate", _sustained(client, sha), "runs/s", f"offered {RATE}/s", ">= 8")


def _raise_limit(client: httpx.Client) -> None:
    client.get("/v1/projects/bench").raise_for_status()


def _repository(path: Path) -> str:
    (path / "greenroom.yml").write_text(BLUEPRINT)
    git = ["git", "-C", str(path), "-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "bench"]):
        subprocess.run([*git, *words], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()


def _start(client: httpx.Client, sha: str) -> str:
    answer = client.post("/v1/runs", json={"project": "bench", "ref": sha})
    answer.raise_for_status()
    return str(answer.json()["id"])


def _one(client: httpx.Client, sha: str) -> float:
    """Seconds between the answer and the end of the run, by the clock that both share."""
    trigger = _start(client, sha)
    began = time.time()
    return _finished(client, trigger) - began


def _finished(client: httpx.Client, trigger: str) -> float:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        run = client.get(f"/v1/triggers/{trigger}").json()["run"]
        state = client.get(f"/v1/runs/{run}").json() if run else {"state": ""}
        if state["state"] == "finished":
            if state["verdict"] != "passed":
                raise RuntimeError(f"run {run}: {state['verdict']}: {state['reason']}")
            return float(state["finished_at"])
        time.sleep(0.02)
    raise TimeoutError(f"trigger {trigger} did not end")


def _sustained(client: httpx.Client, sha: str) -> float:
    """Runs finished per second while they are offered at the rate; the backlog at the end counts against it."""
    began, triggers = time.time(), []
    for number in range(SUSTAINED):
        time.sleep(max(0.0, began + number / RATE - time.time()))
        triggers.append(_start(client, sha))
    ends = [_finished(client, trigger) for trigger in triggers]
    offered_s = SUSTAINED / RATE
    return SUSTAINED / max(offered_s, max(ends) - began - 0.5)
