"""The route of morning reports: JSON, text for a mail, or a page, by what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from pipeline.api import morning_page, morning_text
from pipeline.api.requests import duration
from pipeline.bootstrap import Application
from pipeline.domain.mornings import MorningReport
from pipeline.domain.runs import Verdict
from pipeline.domain.schedules import Due, Schedule

JSON, TEXT, HTML = "application/json", "text/plain", "text/html"
#: What a wildcard means.
WILDCARDS: Mapping[str, str] = {"*/*": JSON, "application/*": JSON, "text/*": TEXT}
#: The page loads nothing and runs nothing.
POLICY = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'"}
VARY = {"vary": "accept"}
Since = Annotated[str, Query(max_length=40, description="such as 24h or 7d", examples=["24h"])]


class _View(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class BadRunView(_View):
    run: str
    branch: str
    sha: str
    verdict: Verdict
    reason: str


class NewFailureView(_View):
    test: str
    branch: str
    run: str = Field(description="the first in which it failed")
    sha: str
    passed_in: str = Field(description="the run before, in which it passed")
    message: str


class FlakyView(_View):
    test: str
    passed: int
    failed: int
    why: str


class SlowView(_View):
    name: str
    seconds: float
    run: str


class ServiceReportView(_View):
    """`service` is empty for runs whose greenroom.yml could not be read."""

    project: str
    service: str
    runs: int
    verdicts: dict[Verdict, int]
    bad_runs: list[BadRunView]
    new_failures: list[NewFailureView] = Field(description="tests that fail now and passed before, branch by branch")
    flaky: list[FlakyView]
    slowest_tests: list[SlowView]
    slowest_stages: list[SlowView]


class NotStartedView(BaseModel):
    """A schedule whose last due time started no run."""

    schedule: str
    project: str
    ref: str
    due_at: float | None
    why: Due | None
    reason: str

    @classmethod
    def of(cls, one: Schedule) -> NotStartedView:
        return cls(
            schedule=one.id,
            project=one.project,
            ref=one.spec.branch,
            due_at=one.last_due_at,
            why=one.last,
            reason=one.last_reason,
        )


class MorningReportView(BaseModel):
    since: float
    until: float
    whole: bool = Field(description="false: there were more runs than are looked at, and older ones are left out")
    not_started: list[NotStartedView]
    services: list[ServiceReportView]

    @classmethod
    def of(cls, report: MorningReport) -> MorningReportView:
        return cls(
            since=report.since,
            until=report.until,
            whole=report.whole,
            not_started=[NotStartedView.of(one) for one in report.not_started],
            services=[ServiceReportView.model_validate(one) for one in report.services],
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["reports"])
    kinds: dict[int | str, dict[str, object]] = {
        200: {"model": MorningReportView, "content": {TEXT: {}, HTML: {}}},
        406: {"description": "none of the accepted types is offered"},
    }

    @routes.get("/reports/morning", summary="What the last runs of each service came to", responses=kinds)
    def morning(service: str = "", since: Since = "24h", accept: Annotated[str, Header()] = "*/*") -> Response:
        kind = _chosen(accept.strip() or "*/*")
        found = app.mornings.report(duration("since", since), service)
        if kind == HTML:
            return HTMLResponse(morning_page.page(found), headers={**VARY, **POLICY})
        if kind == TEXT:
            return PlainTextResponse(morning_text.text(found), headers=VARY)
        view = MorningReportView.of(found)
        return Response(view.model_dump_json(), media_type=JSON, headers=VARY)

    return routes


def _chosen(accept: str) -> str:
    """The offered type that is liked best, by weight and then by order."""
    weighed = sorted((_weighed(one) for one in accept.split(",")), key=lambda one: -one[1])
    liked = [WILDCARDS.get(name, name) for name, weight in weighed if weight > 0]
    chosen = next((name for name in liked if name in {JSON, TEXT, HTML}), None)
    if chosen is None:
        raise HTTPException(406, f"{accept[:80]!r} is not offered; there are {JSON}, {TEXT} and {HTML}")
    return chosen


def _weighed(part: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in part.split(";"))
    weights = [one.removeprefix("q=") for one in parameters if one.startswith("q=")]
    try:
        return name, float(weights[0]) if weights else 1.0
    except ValueError:
        return name, 0.0
