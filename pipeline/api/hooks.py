"""Webhooks: the one listener that may be exposed; every delivery is signed, and stored before it is answered."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pipeline.api import problems
from pipeline.domain.errors import TooLarge
from pipeline.stages.intake import Intake, Taken

#: Bytes of one delivery, and the seconds that it may take to arrive.
LIMIT_BYTES = 5 * 1024 * 1024
ARRIVES_S = 10.0


def router(intake: Intake, public_url: str) -> APIRouter:
    routes = APIRouter()

    @routes.post(
        "/v1/hooks/{project}",
        status_code=202,
        summary="Take a delivery",
        responses=problems.told(400, 401, 404, 408, 413),
    )
    async def take(project: str, request: Request) -> Response:
        try:
            async with asyncio.timeout(ARRIVES_S):
                body = await _body(request)
        except TimeoutError as error:
            raise HTTPException(408, f"a delivery has {ARRIVES_S:g} s to arrive") from error
        taken = await intake.take(project, dict(request.headers.items()), body)
        return JSONResponse(_answer(taken, public_url), status_code=202 if taken.trigger_id else 200)

    return routes


def application(intake: Intake, public_url: str) -> FastAPI:
    """The application of the hooks' own listener."""
    app = FastAPI(title="Greenroom hooks", docs_url=None, redoc_url=None, openapi_url=None)
    problems.install(app)
    app.include_router(router(intake, public_url))

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    return app


def _answer(taken: Taken, public_url: str) -> dict[str, str | bool]:
    if not taken.trigger_id:
        return {"ignored": taken.ignored, "duplicate": taken.duplicate}
    url = f"{public_url.rstrip('/')}/v1/triggers/{taken.trigger_id}"
    return {"trigger": taken.trigger_id, "url": url, "duplicate": taken.duplicate}


async def _body(request: Request) -> bytes:
    """The raw bytes, refused as soon as they are too many."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > LIMIT_BYTES:
        raise TooLarge(f"a delivery has at most {LIMIT_BYTES} bytes, this one announces {announced}")
    pieces = bytearray()
    async for piece in request.stream():
        pieces += piece
        if len(pieces) > LIMIT_BYTES:
            raise TooLarge(f"a delivery has at most {LIMIT_BYTES} bytes")
    return bytes(pieces)
