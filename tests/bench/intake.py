"""Deliveries per second of one API process, signature and store included, against a bare route."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.bench import load
from tests.bench.deployment import Deployment, deployment, free_port, wait_http
from tests.bench.figures import Figure, median, p99

PAYLOAD = Path(__file__).parent.parent / "data" / "webhooks" / "github" / "push-new-branch.json"
SECRET = "bench-secret"
REQUESTS = 2000
ROUNDS = 5


def measure() -> Iterator[Figure]:
    body = PAYLOAD.read_text()
    with deployment("[providers.memory]\ndriver = 'memory'\n", []) as made:
        port = _start_bare(made)
        with made.client() as client:
            client.post("/v1/projects", json={"name": "bench", "hook_secret": SECRET}).raise_for_status()
        bare = load.Load(port, "/bare", body, {}, REQUESTS)
        ours = load.Load(made.api_port, "/v1/hooks/bench", body, _headers(body, "warm"), REQUESTS)
        rates = [_round(bare, ours, body, number) for number in range(ROUNDS)]
        our_rate, bare_rate = median([ours for ours, _ in rates]), median([bare for _, bare in rates])
        yield Figure("intake", median([o / b for o, b in rates]), "ratio", "bare async route, one write", ">= 0.5")
        yield Figure("intake_rate", our_rate, "deliveries/s", f"bare route: {bare_rate:.0f}/s")
        calm = load.Load(**{**vars(ours), "headers": _headers(body, "calm"), "rate": our_rate / 2})
        result = _checked(load.run(calm))
        yield Figure("intake_p99", p99(result.latencies) * 1000, "ms", f"at {our_rate / 2:.0f} deliveries/s", "< 50")


def _start_bare(made: Deployment) -> int:
    port = free_port()
    made.start("bare", "tests.bench.bare", str(made.redis_socket), str(port))
    wait_http(f"http://127.0.0.1:{port}/openapi.json")
    return port


def _round(bare: load.Load, ours: load.Load, body: str, number: int) -> tuple[float, float]:
    fresh = load.Load(**{**vars(ours), "headers": _headers(body, f"round-{number}")})
    bare_rate = _checked(load.run(bare)).per_second
    return _checked(load.run(fresh)).per_second, bare_rate


def _checked(result: load.Result) -> load.Result:
    if set(result.statuses) != {"202"}:
        raise RuntimeError(f"not every delivery was taken: {result.statuses}")
    return result


def _headers(body: str, series: str) -> Mapping[str, str]:
    digest = hmac.new(SECRET.encode(), body.encode(), hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-github-event": "push",
        "x-github-delivery": f"{series}-{{n}}",
        "x-hub-signature-256": f"sha256={digest}",
    }
