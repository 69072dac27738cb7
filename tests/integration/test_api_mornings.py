"""The morning report over the API: JSON, text or a page, by what is accepted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipeline.bootstrap import Application
from pipeline.domain.blueprint import ScheduleSpec
from pipeline.domain.reports import CaseStatus, TestCase, TestReport
from pipeline.domain.runs import RunState, TestCounts, Verdict
from pipeline.domain.schedules import Due, Source, new
from pipeline.envs.books import REPORTS, SCHEDULES
from tests.integration.test_api import check_problem, make_run
from tests.plugins.redis_server import RedisServer
from tests.tools.deployment import memory_settings

pytestmark = pytest.mark.redis
REPORT = "/v1/reports/morning"
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def app(redis_server: RedisServer, tmp_path: Path) -> Iterator[Application]:
    app = Application(memory_settings(tmp_path, redis_server.url))
    app.projects.add("shop", repository="https://forge.test/shop.git")
    now = app.clock.now()
    for id, ago, status in (("run-1", 100_000.0, CaseStatus.PASSED), ("run-2", 60.0, CaseStatus.FAILED)):
        verdict = Verdict.PASSED if status is CaseStatus.PASSED else Verdict.FAILED
        ended = {"state": RunState.FINISHED, "finished_at": now - ago, "verdict": verdict, "reason": NASTY}
        make_run(app, id, now - ago - 1, tests=TestCounts(passed=1), **ended)
        report = TestReport((TestCase("s", "", NASTY, status, 1.5),))
        app.books.commit(REPORTS.put(f"{id}.1.t", report, 0, indexes={f"reports:{id}": 1}))
    nightly = new("shop", "https://forge.test/shop.git", ScheduleSpec("0 2 * * *", "main"), Source.FILE, now)
    missed = replace(nightly, last=Due.MISSED, last_due_at=now - 30, last_reason=NASTY)
    app.books.commit(SCHEDULES.put(missed.id, missed, 0))
    yield app
    app.redis.close()


async def test_a_program_reads_json(client: httpx.AsyncClient) -> None:
    answer = await client.get(REPORT, params={"service": "shop", "since": "24h"})
    found = answer.json()
    assert (found["whole"], round(found["until"] - found["since"])) == (True, 86_400)
    assert [(one["project"], one["why"]) for one in found["not_started"]] == [("shop", "missed")]
    (shop,) = found["services"]
    assert (shop["project"], shop["runs"], shop["verdicts"]) == ("shop", 1, {"passed": 0, "failed": 1, "error": 0})
    assert [(one["test"], one["run"], one["passed_in"]) for one in shop["new_failures"]] == [(NASTY, "run-2", "run-1")]
    assert shop["flaky"] == [{"test": NASTY, "passed": 1, "failed": 1, "why": "passed and failed on 1111111111"}]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("", "application/json"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain; charset=utf-8"),
        ("text/*", "text/plain; charset=utf-8"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
        ("text/html;q=0.1, text/plain;q=0.9", "text/plain; charset=utf-8"),
        ("text/html;q=0, application/json", "application/json"),
        ("text/html;q=x, TEXT/PLAIN", "text/plain; charset=utf-8"),
    ],
)
async def test_what_is_accepted_is_answered(client: httpx.AsyncClient, accept: str, kind: str) -> None:
    answer = await client.get(REPORT, headers={"accept": accept})
    assert (answer.status_code, answer.headers["content-type"], answer.headers["vary"]) == (200, kind, "accept")


async def test_a_page_obeys_nothing_that_others_wrote(client: httpx.AsyncClient) -> None:
    answer = await client.get(REPORT, headers={"accept": "text/html"})
    assert "<img" not in answer.text
    assert "&lt;img" in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


async def test_what_cannot_be_answered_is_refused(client: httpx.AsyncClient) -> None:
    check_problem(await client.get(REPORT, headers={"accept": "image/png"}), 406, "not-acceptable", "text/html")
    check_problem(await client.get(REPORT, params={"service": "shpo"}), 404, "not-found", "did you mean shop?")
    check_problem(await client.get(REPORT, params={"since": "soon"}), 400, "bad-request", "since: ")
