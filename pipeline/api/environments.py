"""Routes of environments."""

from __future__ import annotations

from fastapi import APIRouter

from pipeline.api.projects import Limit, Offset
from pipeline.api.views import EnvironmentView, Page, QosCheckView, Reasoned
from pipeline.bootstrap import Application


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["environments"])

    @routes.get("/environments", summary="Environments, newest first")
    def environments(project: str = "", limit: Limit = 50, offset: Offset = 0) -> Page[EnvironmentView]:
        index = f"environments:project:{project}" if project else "environments"
        found = app.books.environments.in_index(index, limit=limit + 1, offset=offset, newest_first=True)
        return Page[EnvironmentView].of([EnvironmentView.of(loaded.value) for loaded in found], offset, limit)

    @routes.get("/environments/{id}", summary="One environment")
    def environment(id: str) -> EnvironmentView:
        return EnvironmentView.of(app.books.environments.get(id).value)

    @routes.post("/environments/{id}/destroy", status_code=202, summary="Take it back whatever its state")
    def destroy(id: str, wish: Reasoned) -> EnvironmentView:
        return EnvironmentView.of(app.reaper.take_back(id, wish.asking()))

    @routes.post("/environments/{id}/qos-checks", status_code=202, summary="Measure what its nodes were promised")
    def check(id: str) -> QosCheckView:
        return QosCheckView.of(app.qos_checks.ask(id))

    @routes.get("/qos-checks/{id}", summary="A measurement, finished or not; kept for a week")
    def checked(id: str) -> QosCheckView:
        return QosCheckView.of(app.books.qos_checks.get(id).value)

    return routes
