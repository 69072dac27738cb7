"""The API over a real Redis, without workers: who may come in, what bad input gets, what is stored before an answer."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.adapters.drivers.local.driver import LocalDriver
from pipeline.api.app import create, create_hooks
from pipeline.api.doctor import Check, checks
from pipeline.api.hooks import LIMIT_BYTES
from pipeline.bootstrap import Application
from pipeline.domain.blueprint import Blueprint, EnvironmentSpec, RoleSpec
from pipeline.domain.breakers import FAILURES, Call
from pipeline.domain.drift import Alert, Drift, Row, Server
from pipeline.domain.environments import Environment, EnvironmentState, Node, planned_nodes
from pipeline.domain.errors import TransientError
from pipeline.domain.guards import Act, Facts
from pipeline.domain.inventory import Aggregate, Inventory, Load, LoadLimits, Machine, MachineState, Zone
from pipeline.domain.leftovers import Finding, Leftover, Thing, ThingKind
from pipeline.domain.promises import Measured
from pipeline.domain.reports import CaseStatus, TestCase, TestReport
from pipeline.domain.resources import Resources
from pipeline.domain.runs import Run, RunState, StageName, Verdict, admit, lose_attempt, start_attempt, wait_attempt
from pipeline.domain.triggers import Trigger, TriggerKind
from pipeline.domain.waits import Hindrance, Wait
from pipeline.envs import events
from pipeline.envs.books import ENVIRONMENTS, LEFTOVERS, QOS_CHECKS, REPORTS, RUNS, SURVEYS, LeftoverReport, Survey
from pipeline.envs.calls import Breakers
from pipeline.envs.gate import AUDIT, Asking
from pipeline.ports.common import Secret
from pipeline.ports.stores import Commit, Event
from pipeline.settings import OpenStackSettings, ProviderSettings
from tests.plugins.api import opened
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
SECRET = "hook-secret"
SHA = "1" * 40
BLUEPRINT = Blueprint("shop", EnvironmentSpec("debian-12", (RoleSpec("web", 2),)))
TRIGGER = Trigger(TriggerKind.PUSH, "github", "https://forge.test/shop.git", SHA, slug="acme/shop", branch="main")


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.projects.add("shop", repository="https://forge.test/shop.git", hook_secret=Secret(SECRET))
    yield app
    app.redis.close()


@pytest.fixture
async def stranger(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client without one."""
    async for client in opened(app, create(app)):
        yield client


@pytest.fixture
async def hooks(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the hooks' own listener."""
    async for client in opened(app, create_hooks(app)):
        yield client


def check_problem(answer: httpx.Response, status: int, code: str, part: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["type"]) == (status, code)
    assert body["title"]
    assert part in body["detail"]


def make_run(app: Application, id: str, created_at: float = 1000.0, **changes: Any) -> Run:
    run = Run(id, "shop", TRIGGER, RunState.PENDING, created_at, blueprint=BLUEPRINT, provider="memory")
    run = replace(run, **changes)
    app.store.commit(Commit((RUNS.put(id, run, 0),), events=tuple(events.of_run(None, run, created_at))))
    return run


def make_environment(app: Application, id: str, state: EnvironmentState, owner: str = "") -> None:
    nodes = planned_nodes(BLUEPRINT.environment)
    environment = Environment(id, "shop", "shop", owner, "memory", state, nodes, BLUEPRINT_PRIORITY, 1.0, 1.0, 2.0)
    app.store.commit(Commit((ENVIRONMENTS.put(id, environment, 0),)))


BLUEPRINT_PRIORITY = Run("", "", TRIGGER, RunState.PENDING, 0.0).priority


# Who may come in


async def test_everything_but_health_and_hooks_needs_the_token(app: Application, stranger: httpx.AsyncClient) -> None:
    described = create(app).openapi()["paths"]
    asked = [(method, path) for path, methods in described.items() for method in methods if path not in OPEN]
    assert len(asked) > 20
    for method, path in asked:
        answer = await stranger.request(method.upper(), path.replace("{", "").replace("}", ""), json={})
        check_problem(answer, 401, "unauthenticated", "Authorization: Bearer")


OPEN = {"/healthz", "/readyz", "/v1/hooks/{project}"}


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer wrong", "Basic {token}", "{token}", "Bearer {token}x", "Bearer ü"]
)
async def test_a_wrong_token_is_refused(app: Application, stranger: httpx.AsyncClient, header: str) -> None:
    value = header.format(token=app.token.reveal()).encode()
    check_problem(await stranger.get("/v1/runs", headers={b"authorization": value}), 401, "unauthenticated")


async def test_health_needs_no_token(stranger: httpx.AsyncClient, hooks: httpx.AsyncClient) -> None:
    assert (await stranger.get("/healthz")).json() == {"status": "ok"}
    assert (await stranger.get("/readyz")).json() == {"status": "ready"}
    assert (await hooks.get("/healthz")).json() == {"status": "ok"}


async def test_the_hooks_listener_has_nothing_but_hooks(app: Application, hooks: httpx.AsyncClient) -> None:
    headers = {"authorization": f"Bearer {app.token.reveal()}"}
    for path in ("/v1/runs", "/v1/projects", "/metrics", "/docs", "/openapi.json", "/readyz"):
        check_problem(await hooks.get(path, headers=headers), 404, "not-found")


# Errors are problems


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/v1/nothing", None, 404, "not-found"),
        ("DELETE", "/v1/runs", None, 405, "method-not-allowed"),
        ("GET", "/v1/runs/run-none", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/tests", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/logs", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/logs/test-1", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/logs/test-1/follow", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/events", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/history", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/artifacts/x", None, 404, "not-found"),
        ("GET", "/v1/runs/..%2f..%2fetc/logs/passwd", None, 404, "not-found"),
        ("GET", "/v1/runs/run-none/artifacts/..%2f..%2fetc%2fpasswd", None, 400, "bad-request"),
        ("POST", "/v1/runs/run-none/cancel", {}, 404, "not-found"),
        ("POST", "/v1/runs/run-none/rerun", {}, 404, "not-found"),
        ("POST", "/v1/runs/run-none/release", None, 404, "not-found"),
        ("POST", "/v1/runs/run-none/ssh", None, 404, "not-found"),
        ("GET", "/v1/environments/env-none", None, 404, "not-found"),
        ("POST", "/v1/environments/env-none/destroy", {"reason": "x"}, 404, "not-found"),
        ("POST", "/v1/environments/env-none/destroy", {}, 422, "bad-request"),
        ("POST", "/v1/environments/env-none/destroy", {"reason": "x", "dry-run": True}, 422, "bad-request"),
        ("GET", "/v1/projects/none", None, 404, "not-found"),
        ("GET", "/v1/triggers/trg-none", None, 404, "not-found"),
        ("GET", "/v1/runs?limit=0", None, 422, "bad-request"),
        ("GET", "/v1/runs?limit=201", None, 422, "bad-request"),
        ("GET", "/v1/runs?offset=-1", None, 422, "bad-request"),
        ("GET", "/v1/runs?limit=many", None, 422, "bad-request"),
        ("POST", "/v1/runs", {}, 422, "bad-request"),
        ("POST", "/v1/runs", {"project": "none"}, 404, "not-found"),
        ("POST", "/v1/runs", {"project": "shop", "ref": "--upload-pack=evil"}, 400, "bad-request"),
        ("POST", "/v1/runs", {"project": "shop", "repository": "ext::sh -c evil"}, 400, "bad-request"),
        ("POST", "/v1/runs", {"project": "shop", "repository": "-oProxyCommand=evil"}, 400, "bad-request"),
        ("POST", "/v1/projects", {"name": "shop"}, 409, "already-exists"),
        ("POST", "/v1/projects", {"name": "No Such Name"}, 400, "bad-request"),
        ("POST", "/v1/projects", {"name": "x", "provider": "moon"}, 400, "bad-request"),
        ("POST", "/v1/projects", {"name": "x", "repository": "javascript:alert(1)"}, 400, "bad-request"),
        ("PATCH", "/v1/projects/none", {}, 404, "not-found"),
        ("PATCH", "/v1/projects/shop", {"provider": "moon"}, 400, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"quota": {"nodes": -1}}, 400, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"quota": {"nodes": True}}, 422, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"quota": {"memory": 64}}, 400, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"max_runs": 0}, 400, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"weight": -1}, 400, "bad-request"),
        ("PATCH", "/v1/projects/shop", {"wieght": 1}, 422, "bad-request"),
        ("DELETE", "/v1/projects/none", None, 404, "not-found"),
        ("GET", "/v1/projects/none/rules", None, 404, "not-found"),
        ("PUT", "/v1/projects/shop/rules", {"rules": "rules: [{name: r, planet: mars}]"}, 422, "invalid-inventory"),
    ],
)
async def test_errors_are_problems(
    client: httpx.AsyncClient, method: str, path: str, body: Any, status: int, code: str
) -> None:
    check_problem(await client.request(method, path, json=body), status, code)


async def test_a_broken_body_is_a_problem(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs", content=b"{", headers={"content-type": "application/json"})
    check_problem(answer, 422, "bad-request")


async def test_a_store_that_is_down_is_a_problem(
    app: Application, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app.store, "count", lambda _: 1 / 0)
    answer = await client.get("/readyz")
    check_problem(answer, 500, "internal", "its log says more")
    assert "ZeroDivisionError" in caplog.text
    assert "ZeroDivisionError" not in answer.text


async def test_a_run_that_waits_says_its_position_and_for_how_long(app: Application, client: httpx.AsyncClient) -> None:
    make_environment(app, "env-1", EnvironmentState.REQUESTED)
    loaded = app.books.environments.get("env-1")
    waits = replace(loaded.value, wait=Wait(3, Hindrance.ROOM, 240.0), reason="waits, position 3")
    app.store.commit(Commit((ENVIRONMENTS.put("env-1", waits, loaded.version),)))
    taken = start_attempt(admit(make_run(app, "run-2"), 1000.0), StageName.DELIVER, 1, "t", 1000.0)
    assert taken is not None
    run = replace(wait_attempt(taken, StageName.DELIVER, "t"), id="run-1", environment_id="env-1")
    app.store.commit(Commit((RUNS.put("run-1", run, 0),)))
    shown = (await client.get("/v1/environments/env-1")).json()
    assert (shown["position"], shown["estimate_s"]) == (3, 240.0)
    run_view = (await client.get("/v1/runs/run-1")).json()
    assert (run_view["position"], run_view["estimate_s"]) == (3, 240.0)
    listed = (await client.get("/v1/runs")).json()["items"]
    assert {one["id"]: one["position"] for one in listed} == {"run-1": 3, "run-2": None}


# Projects


async def test_a_project_is_changed_shown_and_removed(app: Application, client: httpx.AsyncClient) -> None:
    make_environment(app, "env-1", EnvironmentState.LEASED)
    wish = {"quota": {"nodes": 20, "memory": "64GiB"}, "max_runs": 5, "weight": 2.5, "provider": "memory"}
    changed = (await client.patch("/v1/projects/shop", json=wish)).json()
    assert (changed["max_runs"], changed["weight"], changed["provider"]) == (5, 2.5, "memory")
    assert changed["quota"]["nodes"] == {"limit": 20, "used": 2}
    assert changed["quota"]["memory_mib"] == {"limit": 65536.0, "used": 1024.0}
    assert changed["quota"]["floating_addresses"] == {"limit": None, "used": 0}
    assert (await client.get("/v1/projects/shop")).json() == changed
    assert (await client.get("/v1/projects")).json() == [changed]
    without = (await client.patch("/v1/projects/shop", json={"quota": {"nodes": None}})).json()
    assert (without["quota"]["nodes"]["limit"], without["quota"]["memory_mib"]["limit"]) == (None, 65536.0)
    free = (await client.patch("/v1/projects/shop", json={"quota": None})).json()
    assert [one["limit"] for one in free["quota"].values()] == [None] * 6
    check_problem(await client.delete("/v1/projects/shop"), 409, "invalid-transition", "environment env-1 (leased)")
    await client.post("/v1/projects", json={"name": "blog"})
    assert (await client.delete("/v1/projects/blog?dry_run=1")).json() == {"name": "blog", "removed": False}
    assert (await client.delete("/v1/projects/blog")).json() == {"name": "blog", "removed": True}
    check_problem(await client.get("/v1/projects/blog"), 404, "not-found")


async def test_rules_of_a_project_are_kept_and_what_they_miss_is_told(client: httpx.AsyncClient) -> None:
    text = "version: 1\nrules: [{name: r, match: {role: web}, require: {zone: rack-z}, max_per_zone: 2}]"
    laid = (await client.put("/v1/projects/shop/rules", json={"rules": text})).json()
    assert laid["warnings"] == ["rule r: there is no zone rack-z"]
    (rule,) = laid["rules"]
    assert (rule["match"], rule["require"], rule["max_per_zone"]) == ({"role": ["web"]}, {"zone": ["rack-z"]}, 2)
    assert (await client.get("/v1/projects/shop/rules")).json() == laid
    assert (await client.get("/v1/projects/shop")).json()["rules"] == laid["rules"]
    blueprint = "version: 1\nservice: s\nenvironment: {image: debian-12, roles: {web: {}}}\ntest: []\n"
    trial = (await client.post("/v1/placements", json={"blueprint": blueprint, "project": "shop"})).json()
    assert trial["answer"] == "infeasible"
    assert "(project shop rule r)" in trial["summary"]
    assert (await client.put("/v1/projects/shop/rules", json={"rules": "version: 1\nrules: []"})).json()["rules"] == []


# Hooks


def plain(payload: object, *, delivery: str = "d-1", secret: str = SECRET, **changes: str) -> dict[str, Any]:
    """A request of the plain forge, signed."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    stamp = str(int(time.time()))
    digest = hmac.new(secret.encode(), f"{stamp}.".encode() + body, "sha256").hexdigest()
    headers = {
        "x-greenroom-signature": f"sha256={digest}",
        "x-greenroom-timestamp": stamp,
        "x-greenroom-delivery": delivery,
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    return {"content": body, "headers": headers}


PUSH = {"repository": "https://forge.test/shop.git", "ref": "refs/heads/main", "after": SHA, "message": "change"}


def stored(app: Application) -> tuple[int, int, int]:
    """What deliveries leave: triggers, delivery notes, jobs."""
    notes = sum(1 for _ in app.redis.scan_iter("greenroom:doc:delivery:*"))
    return app.store.count("triggers"), notes, len(app.store.peek(1000))


async def test_a_delivery_is_stored_before_it_is_answered(app: Application, hooks: httpx.AsyncClient) -> None:
    answer = await hooks.post("/v1/hooks/shop", **plain(PUSH))
    assert answer.status_code == 202
    body = answer.json()
    assert body["duplicate"] is False
    record = app.books.triggers.get(body["trigger"]).value
    assert (record.project, record.trigger.sha, record.trigger.branch) == ("shop", SHA, "main")
    assert body["url"] == f"{app.settings.public_url}/v1/triggers/{record.id}"
    assert [job.task for job in app.store.peek(10)] == ["plan_trigger"]


async def test_the_same_delivery_is_taken_once(app: Application, hooks: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(hooks.post("/v1/hooks/shop", **plain(PUSH)) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["trigger"] for answer in answers}) == 1
    assert sorted(answer.json()["duplicate"] for answer in answers) == [False] + [True] * 9
    assert stored(app) == (1, 1, 1)
    other = await hooks.post("/v1/hooks/shop", **plain(PUSH, delivery="d-2"))
    assert other.json()["duplicate"] is False
    assert stored(app) == (2, 2, 2)


def github(payload: object, secret: str = SECRET) -> tuple[bytes, str, str]:
    """Body, SHA-256 and SHA-1 signature of a delivery from GitHub."""
    body = json.dumps(payload).encode()
    by = {name: hmac.new(secret.encode(), body, name).hexdigest() for name in ("sha256", "sha1")}
    return body, f"sha256={by['sha256']}", f"sha1={by['sha1']}"


GITHUB_PUSH = {
    "ref": "refs/heads/main",
    "before": "0" * 40,
    "after": SHA,
    "repository": {"clone_url": "https://forge.test/shop.git", "full_name": "acme/shop"},
    "head_commit": {"id": SHA, "message": "change"},
}


@pytest.mark.parametrize(
    "signature",
    ["missing", "empty", "wrong", "of another secret", "sha1 alone", "sha1 as sha256", "sha256=", "of an empty secret"],
)
async def test_a_delivery_that_is_not_signed_is_refused_and_leaves_nothing(
    app: Application, hooks: httpx.AsyncClient, signature: str
) -> None:
    body, good, sha1 = github(GITHUB_PUSH)
    headers = {"x-github-event": "push", "x-github-delivery": "d-1", "x-hub-signature-256": good}
    assert stored(app) == (0, 0, 0)
    match signature:
        case "missing":
            del headers["x-hub-signature-256"]
        case "sha1 alone":
            del headers["x-hub-signature-256"]
            headers["x-hub-signature"] = sha1
        case _:
            headers["x-hub-signature-256"] = {
                "empty": "",
                "wrong": good[:-1] + ("0" if good[-1] != "0" else "1"),
                "of another secret": github(GITHUB_PUSH, "other")[1],
                "sha1 as sha256": sha1,
                "sha256=": "sha256=",
                "of an empty secret": github(GITHUB_PUSH, "")[1],
            }[signature]
    answer = await hooks.post("/v1/hooks/shop", content=body, headers=headers)
    check_problem(answer, 401, "bad-signature")
    assert SECRET not in answer.text
    assert stored(app) == (0, 0, 0)


async def test_a_signature_is_checked_over_the_raw_bytes(app: Application, hooks: httpx.AsyncClient) -> None:
    request = plain(PUSH)
    request["content"] = json.dumps(PUSH, indent=1).encode()
    check_problem(await hooks.post("/v1/hooks/shop", **request), 401, "bad-signature")
    assert stored(app) == (0, 0, 0)


async def test_a_body_that_announces_too_much_is_refused(app: Application, hooks: httpx.AsyncClient) -> None:
    request = plain(b"x" * (LIMIT_BYTES + 1))
    check_problem(await hooks.post("/v1/hooks/shop", **request), 413, "too-large")
    assert stored(app) == (0, 0, 0)


async def test_a_body_that_grows_too_much_is_refused_on_the_way(app: Application, hooks: httpx.AsyncClient) -> None:
    sent = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 20 * LIMIT_BYTES:
            sent += 1 << 20
            yield b"x" * (1 << 20)

    answer = await hooks.post("/v1/hooks/shop", content=pieces(), headers=plain(b"")["headers"])
    check_problem(answer, 413, "too-large")
    assert stored(app) == (0, 0, 0)


async def test_a_body_of_the_limit_is_taken(app: Application, hooks: httpx.AsyncClient) -> None:
    padded = json.dumps({**PUSH, "more": ""}).encode()
    padded = padded[:-2] + b"x" * (LIMIT_BYTES - len(padded)) + b'"}'
    assert len(padded) == LIMIT_BYTES
    assert (await hooks.post("/v1/hooks/shop", **plain(padded))).status_code == 202


@pytest.mark.parametrize(
    ("payload", "part"),
    [
        (b"{", "no JSON"),
        (b"", "no JSON"),
        (b"[]", "no JSON object"),
        (b"[" * 100_000, "no JSON"),
        (b'"\xff"', "no JSON"),
        ({}, "has no ref"),
        ({**PUSH, "after": "; rm -rf /"}, "is no commit id"),
        ({**PUSH, "ref": "refs/heads/--upload-pack=evil"}, "reads like an option"),
        ({**PUSH, "ref": "refs/heads/a..b"}, "no name of a ref"),
        ({**PUSH, "repository": "ext::sh -c evil"}, "no repository URL"),
        ({**PUSH, "repository": "https://user:password@forge.test/shop.git"}, "login in it"),
        ({**PUSH, "after": 7}, "has no after"),
    ],
)
async def test_broken_content_is_refused_and_leaves_nothing(
    app: Application, hooks: httpx.AsyncClient, payload: object, part: str
) -> None:
    check_problem(await hooks.post("/v1/hooks/shop", **plain(payload)), 400, "bad-request", part)
    assert stored(app) == (0, 0, 0)


async def test_a_request_of_no_forge_is_refused(app: Application, hooks: httpx.AsyncClient) -> None:
    check_problem(await hooks.post("/v1/hooks/shop", content=b"{}"), 400, "bad-request", "no forge that is known")
    assert stored(app) == (0, 0, 0)


async def test_an_unknown_event_is_refused(app: Application, hooks: httpx.AsyncClient) -> None:
    body, good, _ = github({})
    headers = {"x-github-event": "conquest", "x-hub-signature-256": good}
    answer = await hooks.post("/v1/hooks/shop", content=body, headers=headers)
    check_problem(answer, 400, "bad-request", "'conquest' is not known")
    assert stored(app) == (0, 0, 0)


async def test_an_unknown_project_is_not_found(app: Application, hooks: httpx.AsyncClient) -> None:
    check_problem(await hooks.post("/v1/hooks/nobody", **plain(PUSH)), 404, "not-found", "greenroom project add")
    check_problem(await hooks.post("/v1/hooks/..%2fshop", **plain(PUSH)), 404, "not-found")
    assert stored(app) == (0, 0, 0)


async def test_a_ping_is_answered_and_starts_nothing(app: Application, hooks: httpx.AsyncClient) -> None:
    body, good, _ = github({"zen": "calm"})
    headers = {"x-github-event": "ping", "x-hub-signature-256": good}
    answer = await hooks.post("/v1/hooks/shop", content=body, headers=headers)
    assert answer.status_code == 200
    assert "the webhook works" in answer.json()["ignored"]
    assert stored(app)[0] == 0


async def test_a_deleted_branch_ends_its_lane(app: Application, hooks: httpx.AsyncClient) -> None:
    answer = await hooks.post("/v1/hooks/shop", **plain({**PUSH, "after": "0" * 40}))
    assert answer.status_code == 200
    (job,) = app.store.peek(10)
    assert (job.task, job.args[:2]) == ("end_lane", ("shop", "https://forge.test/shop.git#branch/main"))
    assert float(job.args[2]) <= app.clock.now()


# Views


async def test_lists_come_in_pages_newest_first(app: Application, client: httpx.AsyncClient) -> None:
    for number in range(5):
        make_run(app, f"run-{number}", created_at=1000.0 + number)
    first = (await client.get("/v1/runs?limit=2")).json()
    second = (await client.get("/v1/runs", params={"limit": 2, "offset": first["next"]})).json()
    last = (await client.get("/v1/runs", params={"limit": 2, "offset": second["next"]})).json()
    assert [[run["id"] for run in page["items"]] for page in (first, second, last)] == [
        ["run-4", "run-3"],
        ["run-2", "run-1"],
        ["run-0"],
    ]
    assert last["next"] is None
    assert (await client.get("/v1/runs?project=other")).json() == {"items": [], "next": None}


async def test_a_run_shows_everything_but_its_tokens(app: Application, client: httpx.AsyncClient) -> None:
    run = admit(make_run(app, "run-1"), 1001.0)
    taken = start_attempt(run, StageName.DELIVER, 1, "the-token", 1002.0)
    assert taken is not None
    app.store.commit(Commit((RUNS.put("run-1", taken, 1),)))
    answer = await client.get("/v1/runs/run-1")
    assert "the-token" not in answer.text
    deliver = answer.json()["stages"][0]
    assert (deliver["name"], deliver["state"], deliver["attempts"][0]["state"]) == ("deliver", "running", "running")


async def test_no_answer_shows_what_is_sealed(app: Application, client: httpx.AsyncClient) -> None:
    added = await client.post("/v1/projects", json={"name": "blog", "forge_token": "forge-s3cret"})
    assert added.status_code == 201
    project = app.books.projects.get("blog").value
    for path in ("/v1/projects", "/v1/projects/blog"):
        text = (await client.get(path)).text
        assert "forge-s3cret" not in text
        assert project.sealed_forge_token not in text
        assert added.json()["hook_secret"] not in text
    assert "forge-s3cret" not in str(app.store.get("project", "blog"))


async def test_a_run_by_hand_is_a_trigger_first(app: Application, client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs", json={"project": "shop", "ref": "feature/x"})
    assert answer.status_code == 202
    view = (await client.get(f"/v1/triggers/{answer.json()['id']}")).json()
    assert (view["kind"], view["branch"], view["state"], view["run"]) == ("api", "feature/x", "received", "")
    assert (await client.get("/v1/triggers?project=shop")).json()["items"] == [view]


async def test_cancel_rerun_and_release_by_http(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    check_problem(await client.post("/v1/runs/run-1/rerun", json={}), 409, "invalid-transition", "is still pending")
    check_problem(await client.post("/v1/runs/run-1/release"), 409, "invalid-transition")
    cancelled = await client.post("/v1/runs/run-1/cancel", json={"reason": "not needed"})
    assert cancelled.status_code == 202
    assert (cancelled.json()["verdict"], cancelled.json()["reason"]) == ("cancelled", "not needed")
    check_problem(await client.post("/v1/runs/run-1/rerun", json={"first": "failed"}), 409, "invalid-transition")
    check_problem(await client.post("/v1/runs/run-1/rerun", json={"first": "test"}), 409, "invalid-transition")
    check_problem(await client.post("/v1/runs/run-1/rerun", json={"first": "lunch"}), 422, "bad-request")
    check_problem(await client.post("/v1/runs/run-1/rerun", json={"first": "destroy"}), 400, "bad-request")
    again = await client.post("/v1/runs/run-1/rerun", json={})
    assert again.status_code == 202
    assert again.json()["rerun_of"] == "run-1"


async def test_an_environment_is_destroyed_by_hand_through_the_gate(
    app: Application, client: httpx.AsyncClient
) -> None:
    make_environment(app, "env-1", EnvironmentState.ADOPTED)
    path, wish = "/v1/environments/env-1/destroy", {"reason": "nobody's"}
    assert (await client.post(path, json={**wish, "dry_run": True})).json()["state"] == "adopted"
    done = await client.post(path, json=wish)
    assert (done.status_code, done.json()["state"], done.json()["reason"]) == (202, "destroying", "nobody's")
    told = [(one["act"], one["who"], one["dry_run"]) for one in (await client.get("/v1/audit")).json()]
    assert told == [("destroy", "operator", True), ("destroy", "operator", False)]


async def test_a_refusal_says_which_guard_and_an_override_passes_it(
    app: Application, client: httpx.AsyncClient
) -> None:
    make_environment(app, "env-1", EnvironmentState.HELD)
    held = app.books.environments.get("env-1")
    longer = replace(held.value, ends_at=app.clock.now() + 900)
    app.books.commit(ENVIRONMENTS.put("env-1", longer, held.version))
    path = "/v1/environments/env-1/destroy"
    for dry_run in (True, False):
        refused = await client.post(path, json={"reason": "x", "dry_run": dry_run})
        check_problem(refused, 409, "guard-refused", "refused by guard held")
    unknown = await client.post(path, json={"reason": "x", "overrides": {"hold": "seen"}})
    check_problem(unknown, 400, "bad-request", "there is no guard hold; there are: ownership")
    passed = await client.post(path, json={"reason": "x", "overrides": {"held": "seen enough"}})
    assert passed.json()["state"] == "destroying"
    assert (await client.get("/v1/audit")).json()[-1]["overridden"] == {"held": "seen enough"}


async def test_held_nodes_are_released_for_a_reason_or_tried_to(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1", environment_id="env-1")
    make_environment(app, "env-1", EnvironmentState.HELD, owner="run-1")
    tried = await client.post("/v1/runs/run-1/release", json={"dry_run": True})
    assert tried.status_code == 202
    assert app.books.environments.get("env-1").value.state is EnvironmentState.HELD
    assert (await client.post("/v1/runs/run-1/release", json={"reason": "seen enough"})).status_code == 202
    assert app.books.environments.get("env-1").value.reason == "seen enough"


def test_cleaning_the_machine_passes_the_gate_first(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Mapping[str, Any]] = []

    def clean(_: LocalDriver) -> int:
        told.extend(event.data for event in app.store.events(AUDIT))
        return 0

    monkeypatch.setattr(LocalDriver, "clean", clean)
    app.settings.providers["local"] = ProviderSettings(driver="local")
    app.clean_nodes("greenroom down --force", {"traffic": "greenroom down --force"})
    (passed,) = told
    assert (passed["who"], passed["why"]) == ("operator", "greenroom down --force")
    assert passed["target"] == f"everything of {app.settings.deployment} on this machine"


async def test_metrics_and_doctor_show_the_delete_budget(app: Application, client: httpx.AsyncClient) -> None:
    for number in range(60):
        app.gate.pass_(Act.REAP, f"env-{number}", Facts("tick", provider="memory"), Asking("tick", "leaked"))
    text = (await client.get("/metrics")).text
    assert 'greenroom_delete_budget{provider="memory"} 60.0' in text
    assert 'greenroom_delete_budget_spent{provider="memory"} 60.0' in text
    found = {check["name"]: check for check in (await client.get("/v1/doctor")).json()}
    check = found["delete budget of memory"]
    assert (check["ok"], check["detail"]) == (False, "60 of 60 removals of its own accord in the last 60 s")
    assert "`delete_budget`" in check["remedy"]


def test_the_doctor_tells_of_a_cloud_that_cannot_be_asked_and_why_its_survey_failed(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    told = OpenStackSettings(cloud="ours", clouds_file=tmp_path / "clouds.yaml", network="net")
    settings = memory_settings(tmp_path, redis_server.url)
    providers = {"cloud": ProviderSettings(driver="openstack", openstack=told), **settings.providers}
    app = Application(settings.model_copy(update={"providers": providers}))
    app.books.commit(SURVEYS.put("cloud", Survey(tried_at=1.0, fault="cloud admin: 403"), 0))
    found = {check.name: check for check in checks(app)}
    app.redis.close()
    assert str(told.clouds_file) in found["provider cloud"].detail
    assert found["leaks at cloud"].detail == "not known: provider cloud does not tell what stands there"
    survey = found["survey of cloud"]
    assert (survey.ok, survey.detail) == (False, "cloud admin: 403")
    assert "greenroom providers sync cloud" in survey.remedy
    assert found["provider memory"].ok
    assert "survey of memory" not in found


async def test_ssh_access_to_what_is_gone_is_refused(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1", environment_id="env-1")
    make_environment(app, "env-1", EnvironmentState.DESTROYED)
    check_problem(await client.post("/v1/runs/run-1/ssh"), 409, "invalid-transition", "is destroyed")


async def test_environments_show_their_nodes(app: Application, client: httpx.AsyncClient) -> None:
    make_environment(app, "env-1", EnvironmentState.REQUESTED, owner="run-1")
    (shown,) = (await client.get("/v1/environments?project=shop")).json()["items"]
    assert shown == (await client.get("/v1/environments/env-1")).json()
    assert [node["name"] for node in shown["nodes"]] == ["web-0", "web-1"]
    assert "sealed" not in json.dumps(shown)


async def test_test_cases_are_shown_by_report(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    report = TestReport((TestCase("e2e", "Shop", "buys", CaseStatus.FAILED, 0.5, "no money"),))
    app.store.commit(Commit((REPORTS.put("run-1.1.test-1-1", report, 0, indexes={"reports:run-1": 1}),)))
    (shown,) = (await client.get("/v1/runs/run-1/tests")).json()
    assert shown["name"] == "1.test-1-1"
    assert shown["cases"] == [
        {"suite": "e2e", "classname": "Shop", "name": "buys", "status": "failed", "time_s": 0.5, "message": "no money"}
    ]


async def test_metrics_count_what_is_stored(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    make_environment(app, "env-1", EnvironmentState.LEASED)
    inventory = Inventory((Machine("m1", "z", {}), Machine("m2", "z", {})), (Zone("z"),))
    app.inventories.sync("memory", inventory)
    app.inventories.quarantine("memory", "m1", Asking("tick", "3 of its last 3 builds failed: no disk"))
    for _ in range(FAILURES):
        Breakers(app.books, app.clock).failed("memory", Call.CREATE, TransientError("timeout"))
    text = (await client.get("/metrics")).text
    assert 'greenroom_machines{provider="memory",state="quarantined"} 1.0' in text
    assert 'greenroom_breaker_open{call="create",provider="memory"} 1.0' in text
    assert 'greenroom_breaker_open{call="list",provider="memory"} 0.0' in text
    first, second = (await client.get("/v1/machines", params={"provider": "memory"})).json()
    assert (first["state"], first["back_at"] > app.clock.now(), second["back_at"]) == ("quarantined", True, None)
    (told,) = (await client.get("/v1/audit")).json()
    assert (told["act"], told["target"], told["who"]) == ("quarantine", "machine memory/m1 into quarantined", "tick")
    assert "greenroom_runs_pending 1.0" in text
    assert 'greenroom_environments_standing{provider="memory"} 1.0' in text


async def test_metrics_count_machines_by_state_promise_and_load(app: Application, client: httpx.AsyncClient) -> None:
    limits = LoadLimits(full={"vcpu": 0.8}, drain={"vcpu": 0.9})
    machines = tuple(Machine(name, "z", {"vcpu": 4.0}) for name in ("m1", "m2", "m3", "m4"))
    app.inventories.sync("memory", Inventory(machines, (Zone("z"),), limits=limits))
    app.inventories.set_state("memory", "m4", MachineState.DRAINING, Asking("me", "a new disk"))
    now = app.clock.now()
    shares = {"m1": 0.85, "m2": 0.95, "m3": 0.1}
    app.inventories.report_loads("memory", {name: Load(now, {"vcpu": share}) for name, share in shares.items()})
    text = (await client.get("/metrics")).text
    assert 'greenroom_machines{provider="memory",state="in-service"} 3.0' in text
    assert 'greenroom_machines{provider="memory",state="draining"} 1.0' in text
    assert 'greenroom_machines{provider="memory",state="down"} 0.0' in text
    assert 'greenroom_promised_share{dimension="vcpu",provider="memory"} 0.0' in text
    loads = {"full": 2, "drain": 1, "stale": 1}
    for load, count in loads.items():
        assert f'greenroom_machines_by_load{{load="{load}",provider="memory"}} {count}.0' in text


async def test_every_route_is_described(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]
    assert {"/v1/runs", "/v1/runs/{id}/logs/{name}/follow", "/v1/hooks/{project}", "/v1/projects"} <= paths.keys()


# Streams


def sse(text: str) -> list[dict[str, str]]:
    """The messages of a stream of server-sent events."""
    return [dict(line.split(": ", 1) for line in message.splitlines()) for message in text.strip().split("\n\n")]


def finish(app: Application, id: str) -> None:
    loaded = app.books.runs.get(id)
    ended = replace(loaded.value, state=RunState.FINISHED, verdict=Verdict.PASSED)
    told = events.of_run(loaded.value, ended, 1005.0)
    app.store.commit(Commit((RUNS.put(id, ended, loaded.version),), events=tuple(told)))


async def test_events_of_a_run_end_with_it(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    app.store.commit(Commit(events=(Event("run-1", "stage.running", 1001.0, {"stage": "deliver"}),)))
    streaming = asyncio.create_task(client.get("/v1/runs/run-1/events"))
    await asyncio.sleep(0.1)
    finish(app, "run-1")
    async with asyncio.timeout(10):
        answer = await streaming
    assert answer.headers["content-type"].startswith("text/event-stream")
    messages = sse(answer.text)
    assert [message["event"] for message in messages] == ["run.pending", "stage.running", "run.finished"]
    assert json.loads(messages[1]["data"]) == {"at": 1001.0, "stage": "deliver"}
    position = messages[0]["id"]
    rest = await client.get("/v1/runs/run-1/events", headers={"last-event-id": position})
    assert [message["event"] for message in sse(rest.text)] == ["stage.running", "run.finished"]
    history = (await client.get("/v1/runs/run-1/history", params={"after": position})).json()
    assert [event["type"] for event in history] == ["stage.running", "run.finished"]


@pytest.mark.parametrize("position", ["x", "1-2-3", "99999999999999999999-0", "-1", "1-1\u00b2"])
async def test_a_position_that_is_none_is_refused(app: Application, client: httpx.AsyncClient, position: str) -> None:
    make_run(app, "run-1")
    check_problem(await client.get("/v1/runs/run-1/events", params={"after": position}), 422, "bad-request")
    check_problem(await client.get("/v1/runs/run-1/history", params={"after": position}), 422, "bad-request")
    header = {b"last-event-id": position.encode()}
    check_problem(await client.get("/v1/runs/run-1/events", headers=header), 422, "bad-request")


async def test_a_log_is_followed_until_its_writer_leaves(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    with app.logs.writer("run-1", "test-1.web-0") as writer:
        writer.write(b"first\n")
        following = asyncio.create_task(client.get("/v1/runs/run-1/logs/test-1.web-0/follow"))
        await asyncio.sleep(0.3)
        writer.write("zweite größer\n".encode())
    async with asyncio.timeout(10):
        messages = sse((await following).text)
    assert "".join(json.loads(m["data"]) for m in messages if m["event"] == "log") == "first\nzweite größer\n"
    assert messages[-1]["event"] == "end"
    assert (await client.get("/v1/runs/run-1/logs/test-1.web-0?offset=6")).text == "zweite größer\n"
    (log,) = (await client.get("/v1/runs/run-1/logs")).json()
    assert (log["name"], log["complete"]) == ("test-1.web-0", True)


async def test_events_after_the_end_of_a_run_are_none(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    finish(app, "run-1")
    last = app.store.events("run-1")[-1].position
    async with asyncio.timeout(10):
        answer = await client.get("/v1/runs/run-1/events", params={"after": last})
    assert (answer.status_code, answer.text) == (200, "")


@pytest.mark.parametrize("lost_in", [RunState.RUNNING, RunState.FINISHED])
async def test_a_log_that_a_killed_worker_left_open_ends(
    app: Application, client: httpx.AsyncClient, lost_in: RunState
) -> None:
    run = lose_attempt(admit(make_run(app, "run-1"), 1001.0), 1002.0, "its worker was lost")
    app.store.commit(Commit((RUNS.put("run-1", replace(run, state=lost_in), 1),)))
    name = "deliver-1" if lost_in is RunState.RUNNING else "of-nobody"
    with app.logs.writer("run-1", name) as writer:
        writer.write(b"so far\n")
        async with asyncio.timeout(10):
            messages = sse((await client.get(f"/v1/runs/run-1/logs/{name}/follow")).text)
    assert [message["event"] for message in messages] == ["log", "end"]


async def test_finished_runs_are_counted_by_verdict(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    finish(app, "run-1")
    text = (await client.get("/metrics")).text
    assert 'greenroom_runs_finished{verdict="passed"} 1.0' in text
    assert 'greenroom_runs_finished{verdict="failed"} 0.0' in text


async def test_a_character_in_two_pieces_is_shown_whole(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    text = "a" * (64 * 1024 - 3) + "größer"
    with app.logs.writer("run-1", "test-1") as writer:
        writer.write(text.encode())
    messages = sse((await client.get("/v1/runs/run-1/logs/test-1/follow")).text)
    assert "".join(json.loads(m["data"]) for m in messages if m["event"] == "log") == text


async def test_artifacts_are_downloaded(app: Application, client: httpx.AsyncClient) -> None:
    make_run(app, "run-1")
    app.logs.save_artifact("run-1", "web-0/var/log/shop.log", [b"one ", b"two"])
    assert (await client.get("/v1/runs/run-1/artifacts")).json() == [{"name": "web-0/var/log/shop.log", "size": 7}]
    assert (await client.get("/v1/runs/run-1/artifacts/web-0/var/log/shop.log")).content == b"one two"
    check_problem(await client.get("/v1/runs/run-1/artifacts/none"), 404, "not-found")


async def test_a_delivery_that_does_not_arrive_is_given_up(
    hooks: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.api.hooks.ARRIVES_S", 0.05)

    async def drips() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    check_problem(await hooks.post("/v1/hooks/shop", content=drips()), 408, "too-slow")


def doctor(app: Application, name: str) -> Check:
    return next(check for check in checks(app) if check.name == name)


def test_the_doctor_tells_adopted_from_leaked_and_names_what_nobody_serves(app: Application) -> None:
    now = app.clock.now()
    make_environment(app, "env-adopted", EnvironmentState.ADOPTED)
    adopted = app.books.environments.get("env-adopted").value
    app.books.commit(ENVIRONMENTS.put(adopted.id, replace(adopted, ends_at=now + 60), 1))
    assert doctor(app, "leaks at memory").ok
    assert doctor(app, "what stands").ok
    late, gone = replace(adopted, ends_at=now - 1), replace(adopted, id="env-gone", provider="sold")
    app.books.commit(ENVIRONMENTS.put(adopted.id, late, 2), ENVIRONMENTS.put(gone.id, gone, 0))
    assert doctor(app, "leaks at memory").detail == "leaked: env-adopted"
    told = doctor(app, "what stands")
    assert (told.ok, told.detail) == (False, "env-gone stand at sold, which the settings do not name")


# Inventories


INVENTORY = """\
version: 1
zones: [{name: rack-a}]
machines: [{name: "a-{1..2}", zone: rack-a, vcpu: 4, memory: 8GiB, disk: 100GiB}]
"""


async def test_what_an_inventory_would_change_is_told_before(app: Application, client: httpx.AsyncClient) -> None:
    before = app.parse_inventory("inventory.yml", INVENTORY.replace("a-{1..2}", "a-{2..3}").encode())
    app.inventories.sync("memory", before)
    answer = await client.post("/v1/inventories/memory/diff", json={"inventory": INVENTORY.replace("8GiB", "4GiB")})
    assert answer.json() == {
        "provider": "memory",
        "added": ["a-1"],
        "changed": [{"machine": "a-2", "differences": ["memory_mib 8192 -> 4096"], "short": [], "nodes": []}],
        "gone": [{"machine": "a-3", "nodes": []}],
        "others": [],
        "unchanged": 0,
    }
    assert [machine.name for machine in app.inventories.view("memory").inventory.machines] == ["a-2", "a-3"]


async def test_a_bad_inventory_is_told_with_its_places(client: httpx.AsyncClient) -> None:
    body = {"inventory": INVENTORY.replace("4,", "-4,"), "source": "lab.yml"}
    answer = await client.post("/v1/inventories/memory/diff", json=body)
    check_problem(
        answer, 422, "invalid-inventory", "lab.yml: line 3, column 51 (machines[0].vcpu): expected more than 0"
    )
    assert answer.json()["findings"][0]["line"] == 3
    answer = await client.post("/v1/inventories/other/diff", json={"inventory": INVENTORY})
    check_problem(answer, 400, "bad-request", "there is no provider 'other'")


# Promises


async def test_a_check_of_promises_is_asked_for_and_read(app: Application, client: httpx.AsyncClient) -> None:
    make_environment(app, "env-1", EnvironmentState.HELD)
    asked = await client.post("/v1/environments/env-1/qos-checks")
    assert asked.status_code == 202
    id = asked.json()["id"]
    assert (await client.get(f"/v1/qos-checks/{id}")).json()["finished_at"] is None
    assert [job.task for job in app.store.peek(10)] == ["check_qos"]
    loaded = app.books.qos_checks.get(id)
    found = (Measured("web-0", "network_in", 1000, 950.0), Measured("web-0", "disk_read_iops", 100, 50.0))
    done = replace(loaded.value, finished_at=loaded.value.asked_at + 9, found=found)
    app.books.commit(QOS_CHECKS.put(id, done, loaded.version))
    told = (await client.get(f"/v1/qos-checks/{id}")).json()
    assert [(one["direction"], one["ratio"], one["kept"]) for one in told["found"]] == [
        ("network_in", 0.95, True),
        ("disk_read_iops", 0.5, False),
    ]
    assert told["kept"] is False


async def test_what_does_not_stand_is_not_measured(app: Application, client: httpx.AsyncClient) -> None:
    make_environment(app, "env-1", EnvironmentState.DESTROYING)
    answer = await client.post("/v1/environments/env-1/qos-checks")
    check_problem(answer, 409, "invalid-transition", "env-1 is destroying: its nodes cannot be measured")
    check_problem(await client.post("/v1/environments/env-9/qos-checks"), 404, "not-found", "env-9")
    check_problem(await client.get("/v1/qos-checks/qos-9"), 404, "not-found", "qos-9")


async def test_leftovers_are_shown_as_they_were_found(app: Application, client: httpx.AsyncClient) -> None:
    path = "/v1/providers/memory/leftovers"
    assert (await client.get(path)).json() == {"provider": "memory", "at": 0, "tried_at": 0, "fault": "", "found": []}
    check_problem(await client.post(path), 400, "bad-request", "its driver is not openstack")
    check_problem(await client.get("/v1/providers/nine/leftovers"), 400, "bad-request", "nine")
    thing = Thing(ThingKind.PORT, "p-1", "spare", "shop-cloud")
    found = (Leftover(thing, Finding.UNUSED, "nothing uses it", "openstack port show p-1", 4.0),)
    app.books.commit(LEFTOVERS.put("memory", LeftoverReport(5.0, 5.0, "", found), 0))
    [shown] = (await client.get(path)).json()["found"]
    assert (shown["kind"], shown["id"], shown["finding"], shown["since"]) == ("port", "p-1", "unused", 4.0)


async def test_servers_are_shown_as_they_were_seen_with_what_to_do(app: Application, client: httpx.AsyncClient) -> None:
    assert (await client.get("/v1/servers")).json() == []
    refused = await client.post("/v1/providers/memory/sync", json={})
    assert refused.status_code == 409
    assert "providers sync memory" in refused.json()["detail"]
    asked = await client.post("/v1/providers/memory/survey")
    assert (asked.status_code, asked.json()["survey"]) == (202, None)
    assert [job.task for job in app.store.peek(10)] == ["survey_provider"]
    node = Node("web-0", "web", "debian", Resources(1, 512, 5), machine="m1", zone="z")
    alert = Alert(Drift.MISSING, "its server is gone", "greenroom destroy env-1")
    rows = (
        Row(Server("s1", "theirs", "active", flavor="m1.tiny", machine="m1", zone="z"), alerts=()),
        Row(None, "env-1", node, "shop", "team", (alert,)),
    )
    inventory = Inventory((Machine("m1", "z", {"vcpu": 4.0}, ("gold",)),), (Zone("z"),), (Aggregate("gold"),))
    app.books.commit(SURVEYS.put("memory", Survey(5.0, 5.0, "", rows, inventory), 0))
    dry = (await client.post("/v1/providers/memory/sync", json={"dry_run": True})).json()
    assert (dry["added"], app.inventories.version("memory")) == (["m1"], 0)
    assert (await client.post("/v1/providers/memory/sync", json={})).json() == dry
    assert app.inventories.version("memory") > 0
    first, second = (await client.get("/v1/servers")).json()
    assert (first["id"], first["hardware"], first["seen_at"]) == ("s1", ["m1.tiny", "gold"], 5.0)
    assert (second["hostname"], second["role"], second["service"], second["state"]) == (
        "web-0",
        "web",
        "shop",
        "planned",
    )
    assert second["alerts"] == [{"drift": "missing", "text": alert.text, "action": alert.action}]
    assert (await client.get("/v1/servers", params={"alerts": "true"})).json() == [second]
    assert (await client.get("/v1/servers", params={"project": "team"})).json() == [second]
    (provider,) = (await client.get("/v1/providers")).json()
    assert provider["survey"] == {
        "at": 5.0, "tried_at": 5.0, "fault": "", "servers": 1, "alerts": 1, "tells_machines": True,
    }  # fmt: skip
    assert (await client.get("/v1/servers", params={"provider": "nowhere"})).status_code == 400
