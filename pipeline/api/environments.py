"""Routes of environments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count, islice
from typing import Annotated

from fastapi import APIRouter, Query

from pipeline.api.projects import Limit, Offset
from pipeline.api.views import EnvironmentView, Page, QosCheckView, Reasoned
from pipeline.bootstrap import Application
from pipeline.domain.environments import Environment, EnvironmentState

StateFilter = Annotated[list[EnvironmentState] | None, Query(description="any of these")]
#: Environments that are read in one go.
PAGE = 200


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["environments"])

    @routes.get("/environments", summary="Environments, newest first")
    def environments(
        project: str = "", owner: str = "", state: StateFilter = None, limit: Limit = 50, offset: Offset = 0
    ) -> Page[EnvironmentView]:
        found = list(islice(_chosen(app, project, owner, state), offset, offset + limit + 1))
        return Page[EnvironmentView].of([EnvironmentView.of(one) for one in found], offset, limit)

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


def _chosen(
    app: Application, project: str, owner: str, states: Sequence[EnvironmentState] | None
) -> Iterator[Environment]:
    """Environments that fit all filters, newest first, read page by page as far as they are wanted."""
    index = f"environments:of:{owner}" if owner else f"environments:project:{project}" if project else "environments"
    for offset in count(0, PAGE):
        ids = app.store.index(index, limit=PAGE, offset=offset, newest_first=True)
        for loaded in app.books.environments.many(ids):
            one = loaded.value
            if (not project or one.project == project) and (not states or one.state in states):
                yield one
        if len(ids) < PAGE:
            return
