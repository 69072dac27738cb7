"""Errors as problem+json (RFC 9457): `type` is the error's code, `detail` what happened and what to do next."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from pipeline.domain.errors import GreenroomError, GuardRefused, HostKeyUnknown, InvalidFile

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What every error of the API looks like."""

    type: str
    title: str
    status: int
    detail: str


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the description of the API says of a route's errors."""
    return {status: {"model": Problem, "content": {MEDIA_TYPE: {}}} for status in statuses}


def problem(status: int, code: str, detail: str, **more: Any) -> JSONResponse:
    body = {"type": code, "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return JSONResponse(body, status_code=status, media_type=MEDIA_TYPE)


async def _greenroom(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GreenroomError)  # noqa: S101  # registered for this class alone
    more: dict[str, Any] = {}
    if isinstance(error, GuardRefused):
        more = {"guard": error.guard, "why": error.why, "remedy": error.remedy}
    if isinstance(error, HostKeyUnknown):
        more = {"host_key": error.shown}
    if isinstance(error, InvalidFile):
        more = {"findings": [vars(finding) for finding in error.findings]}
    return problem(error.status, error.code, str(error), **more)


async def _validation(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101  # registered for this class alone
    wrong = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return problem(422, "bad-request", "; ".join(wrong))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101  # registered for this class alone
    codes = {404: "not-found", 405: "method-not-allowed", 406: "not-acceptable", 408: "too-slow", 413: "too-large"}
    return problem(error.status_code, codes.get(error.status_code, "bad-request"), str(error.detail))


async def _internal(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s broke", request.method, request.url.path, exc_info=error)
    return problem(500, "internal", "this is a mistake in Greenroom; its log says more")


def install(app: FastAPI) -> None:
    """Let every error leave as a problem."""
    app.add_exception_handler(GreenroomError, _greenroom)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _internal)
