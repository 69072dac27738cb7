"""The API's application: everything under /v1 needs the token, and is described by /openapi.json."""

from __future__ import annotations

import hmac
from importlib.metadata import version

from fastapi import Depends, FastAPI, Request
from starlette.responses import Response

from pipeline.api import doctor, environments, hooks, metrics, problems, projects, runs
from pipeline.bootstrap import Application
from pipeline.domain.errors import Unauthenticated

PROBLEMS: dict[int | str, dict[str, object]] = {
    status: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}} for status in (400, 401, 404, 409, 422)
}


def create(app: Application) -> FastAPI:
    """The whole API of a deployment."""
    token = app.token.reveal()

    async def authenticated(request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.encode(), token.encode()):
            raise Unauthenticated(f"send `Authorization: Bearer …` with the token in {app.settings.token_file}")

    api = FastAPI(title="Greenroom", version=version("greenroom"))
    problems.install(api)
    api.include_router(hooks.router(app.intake, app.settings.public_url))
    for part in (projects.router(app), runs.router(app), environments.router(app), doctor.router(app)):
        api.include_router(part, prefix="/v1", dependencies=[Depends(authenticated)], responses=PROBLEMS)

    @api.get("/healthz", summary="Whether this process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @api.get("/readyz", summary="Whether the store answers, too")
    def readyz() -> dict[str, str]:
        app.store.count("runs")
        return {"status": "ready"}

    @api.get("/metrics", summary="Prometheus metrics", dependencies=[Depends(authenticated)])
    def prometheus() -> Response:
        return Response(metrics.render(app), media_type=metrics.MEDIA_TYPE)

    return api


def create_hooks(app: Application) -> FastAPI:
    """The hooks alone, for a listener that may be exposed."""
    return hooks.application(app.intake, app.settings.public_url)
