"""Routes of schedules."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import TriggerView, Wish
from pipeline.bootstrap import Application
from pipeline.domain.blueprint import Missed, Overlap, Priority, ScheduleSpec
from pipeline.domain.schedules import Due, Schedule, Source
from pipeline.envs.gate import Asking
from pipeline.stages.control import BY_HAND

#: Why a schedule is removed when nobody says it.
REMOVED = "removed by hand"


class NewSchedule(Wish):
    """`cron` is five fields, read in `timezone`. `repository` is the project's own where none is given."""

    project: str = Field(max_length=100)
    cron: str = Field(max_length=1024, examples=["0 2 * * *"])
    timezone: str = Field(default="UTC", max_length=100, examples=["Europe/Berlin"])
    repository: str = Field(default="", max_length=1024)
    ref: str = Field(default="HEAD", max_length=1024)
    overlap: Overlap = Overlap.SKIP
    missed: Missed = Missed.RUN_ONCE
    priority: Priority = Priority.NIGHTLY

    @property
    def spec(self) -> ScheduleSpec:
        return ScheduleSpec(self.cron, self.ref, self.priority, self.timezone, self.overlap, self.missed)


class ScheduleView(BaseModel):
    id: str
    project: str
    repository: str
    ref: str
    cron: str
    timezone: str
    overlap: Overlap
    missed: Missed
    priority: Priority
    source: Source = Field(description="`api`, or `file`: the greenroom.yml of the default branch")
    created_at: float
    due_at: float
    due: str = Field(description="the same, by the clocks of its time zone")
    last_due_at: float | None
    last: Due | None = Field(description="what became of the last due time")
    last_reason: str
    last_trigger: str = Field(description="of the last run that it started, also by hand")

    @classmethod
    def of(cls, one: Schedule) -> ScheduleView:
        spec = one.spec
        return cls(
            id=one.id,
            project=one.project,
            repository=one.repository,
            ref=spec.branch,
            cron=spec.cron,
            timezone=spec.timezone,
            overlap=spec.overlap,
            missed=spec.missed,
            priority=spec.priority,
            source=one.source,
            created_at=one.created_at,
            due_at=one.due_at,
            due=datetime.fromtimestamp(one.due_at, ZoneInfo(spec.timezone)).isoformat(),
            last_due_at=one.last_due_at,
            last=one.last,
            last_reason=one.last_reason,
            last_trigger=one.last_trigger,
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["schedules"])

    @routes.post("/schedules", status_code=201, summary="Add a schedule")
    def add(new: NewSchedule) -> ScheduleView:
        return ScheduleView.of(app.schedules.add(new.project, new.repository, new.spec))

    @routes.get("/schedules", summary="All schedules, or those of a project")
    def schedules(project: str = "") -> list[ScheduleView]:
        return [ScheduleView.of(one) for one in app.schedules.all(project)]

    @routes.get("/schedules/{id}", summary="One schedule")
    def schedule(id: str) -> ScheduleView:
        return ScheduleView.of(app.schedules.get(id))

    @routes.delete("/schedules/{id}", summary="Remove a schedule; its runs stay")
    def remove(id: str, dry_run: bool = False, reason: str = "") -> ScheduleView:
        return ScheduleView.of(app.schedules.remove(id, Asking(BY_HAND, reason or REMOVED, dry_run=dry_run)))

    @routes.post("/schedules/{id}/run-now", status_code=202, summary="Start its run now; the answer is its trigger")
    def run_now(id: str) -> TriggerView:
        return TriggerView.of(app.schedules.run_now(id, BY_HAND))

    return routes
