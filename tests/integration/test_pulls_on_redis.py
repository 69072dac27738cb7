"""A pull request's environment through the real processes: signed webhooks, Redis, workers, the tick, a forge's API."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.domain.environments import Environment, EnvironmentState
from pipeline.domain.pulls import Pull
from pipeline.ports.common import Secret
from tests.plugins.redis_server import RedisServer
from tests.tools.commented import Comments, server_of
from tests.tools.deployment import Deployment, make_repository, wait_for

pytestmark = pytest.mark.redis
BLUEPRINT = {
    "version": 1,
    "service": "shop",
    "on": {"pull_request": {"environment": True}},
    "environment": {"image": "debian-12", "roles": {"web": {"script": "setup.sh"}}},
    "deploy": [{"role": "web", "to": "/srv/shop", "run": ["./migrate"]}],
    "test": [{"run": "./check"}],
}
SECRET = "hook-secret"  # of this test alone


@pytest.fixture
def forge() -> Iterator[Comments]:
    kept = Comments("github")
    with server_of(kept) as server:
        kept.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def repository(tmp_path: Path) -> str:
    return make_repository(tmp_path / "shop", BLUEPRINT)


@pytest.fixture
def deployment(tmp_path: Path, forge: Comments, repository: str) -> Iterator[Deployment]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is missing: run make setup")
    home = tmp_path / "home"
    home.mkdir()
    deployment = Deployment(home, RedisServer(home))
    deployment.redis.start()
    try:
        deployment.app.projects.add(
            "shop",
            repository=repository,
            api_url=forge.url,
            forge_token=Secret("tok-123"),
            hook_secret=Secret(SECRET),
        )
        deployment.tick()
        deployment.provider()
        deployment.worker()
        deployment.start("workers", "statuses")
        deployment.start("pipeline.api.server", "hooks")
        yield deployment
    finally:
        deployment.stop()


def commit(repository: str, text: str) -> str:
    """One more commit; its id."""
    (Path(repository) / "version").write_text(text)
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
    for words in (["add", "."], [*identity, "commit", "-q", "-m", text]):
        subprocess.run(["git", *words], cwd=repository, check=True, capture_output=True, timeout=30)
    told = subprocess.run(["git", "rev-parse", "HEAD"], cwd=repository, check=True, capture_output=True, timeout=30)
    return told.stdout.decode().strip()


def event(repository: str, action: str, sha: str, second: int) -> dict[str, Any]:
    """As GitHub tells what happened to pull request 12, in its words."""
    return {
        "action": action,
        "number": 12,
        "pull_request": {
            "title": "A new door",
            "html_url": "https://forge.test/group/shop/pull/12",
            "merged": False,
            "updated_at": f"2026-01-01T00:00:{second:02}Z",
            "head": {"sha": sha, "ref": "feature", "repo": {"full_name": "group/shop"}},
            "base": {"sha": "0" * 40, "ref": "main"},
        },
        "repository": {"full_name": "group/shop", "clone_url": repository},
        "sender": {"login": "ada"},
    }


def deliver(deployment: Deployment, body: Mapping[str, Any], *, secret: str = SECRET) -> httpx.Response:
    sent = json.dumps(body).encode()
    digest = hmac.new(secret.encode(), sent, hashlib.sha256).hexdigest()
    headers = {"x-github-event": "pull_request", "x-hub-signature-256": f"sha256={digest}"}
    return httpx.post(f"http://127.0.0.1:{deployment.hooks_port}/v1/hooks/shop", content=sent, headers=headers)


def listening(deployment: Deployment) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{deployment.hooks_port}/healthz").is_success
    except httpx.TransportError:
        return False


def test_opened_pushed_to_and_closed(deployment: Deployment, forge: Comments, repository: str) -> None:
    books = deployment.app.books

    def pull() -> Pull | None:
        found = books.pulls.find("shop-pr-12")
        return found.value if found is not None else None

    def serves(sha: str) -> bool:
        now = pull()
        return now is not None and now.serving is not None and now.serving.sha == sha

    def standing() -> list[Environment]:
        return [one.value for one in books.environments.everything("environments:pulls")]

    def told() -> str:
        return next(iter(forge.texts.values()), "")

    wait_for(lambda: listening(deployment), "the hooks' listener")
    first = commit(repository, "one")
    opened = event(repository, "opened", first, 1)
    assert deliver(deployment, opened, secret="guessed").status_code == 401
    assert deliver(deployment, opened).status_code == 202
    assert deliver(deployment, opened).json()["duplicate"] is True
    wait_for(lambda: serves(first), f"the first environment; {deployment.log.read_text()[-3000:]}")
    wait_for(lambda: f"Environment of {first[:12]}" in told(), "the comment")
    (one,) = standing()
    assert one.contract is not None
    assert (one.state, one.contract.owner, one.contract.name) == (EnvironmentState.LEASED, "pull request 12", "pr-12")

    second = commit(repository, "two")
    assert deliver(deployment, event(repository, "synchronize", second, 3)).status_code == 202
    assert deliver(deployment, event(repository, "synchronize", first, 2)).status_code == 202  # late, of an older one
    wait_for(lambda: serves(second), "the second environment")
    wait_for(lambda: len(standing()) == 1, "the end of the first one")
    wait_for(lambda: f"Environment of {second[:12]}" in told(), "the comment of the second one")
    assert standing()[0].id != one.id

    assert deliver(deployment, event(repository, "closed", second, 4)).json()["ignored"] == "pull request 12 was closed"
    wait_for(lambda: not standing(), "the end of the second one")
    wait_for(lambda: "was closed" in told(), "the last word")

    def made() -> list[Environment]:
        return [one.value for one in books.environments.everything("environments:of:pull request 12")]

    wait_for(lambda: all(one.final for one in made()), "the end of both")
    assert len(made()) == 2
    assert len(forge.texts) == 1
    assert len([asked for asked in forge.asked if asked.startswith("POST") and asked.endswith("/comments")]) == 1
    assert {status["state"] for status in forge.statuses} >= {"pending", "success"}
