"""The API's application: everything but health and hooks needs the token, and is described by /openapi.json."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from starlette.responses import PlainTextResponse, Response

from pipeline.api import (
    acceptances,
    cloud_acts,
    cloud_setups,
    commands,
    doctor,
    environments,
    hooks,
    inventories,
    machines,
    metrics,
    mornings,
    placements,
    pools,
    problems,
    projects,
    requests,
    runs,
    schedules,
    servers,
    snapshots,
    stagings,
    templates,
)
from pipeline.api.gate import Gate
from pipeline.bootstrap import Application

#: Statuses that any route may answer with when it fails.
FAULTS = (400, 401, 404, 409, 422, 500, 502, 503)
#: In the order in which the API's description shows them.
PARTS = (
    projects,
    runs,
    schedules,
    mornings,
    environments,
    requests,
    commands,
    templates,
    pools,
    stagings,
    placements,
    machines,
    inventories,
    acceptances,
    servers,
    snapshots,
    cloud_acts,
    cloud_setups,
    doctor,
)


def create(app: Application) -> FastAPI:
    """The whole API of a deployment."""
    api = FastAPI(title="Greenroom", version=version("greenroom"))
    problems.install(api)
    api.add_middleware(Gate, token=app.token, token_file=str(app.settings.token_file))
    api.include_router(hooks.router(app.intake, app.settings.public_url))
    for part in PARTS:
        api.include_router(part.router(app), prefix="/v1", responses=problems.told(*FAULTS))

    @api.get("/healthz", summary="Whether this process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Whether the store answers, too")
    def readyz() -> dict[str, str]:
        app.store.count("runs")
        return {"status": "ready"}

    exposed = metrics.Metrics(app)

    @api.get("/metrics", summary="Prometheus metrics", response_class=PlainTextResponse)
    def prometheus() -> Response:
        return Response(exposed.text(), media_type=metrics.MEDIA_TYPE)

    return api


def create_hooks(app: Application) -> FastAPI:
    """The hooks alone, for a listener that may be exposed."""
    return hooks.application(app.intake, app.settings.public_url)
