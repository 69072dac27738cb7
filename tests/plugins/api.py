"""A client of the API of a test's own `app`, in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from pipeline.api.app import create
from pipeline.bootstrap import Application


async def opened(app: Application, api: FastAPI, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that sends these headers, once."""
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://greenroom.test", headers=headers) as client:
        yield client
    async_redis = getattr(app.async_store, "_redis")  # noqa: B009  # it has no other end than the process'
    await async_redis.aclose()


@pytest.fixture
async def client(app: Application) -> AsyncIterator[httpx.AsyncClient]:
    """A client with the token; `app` is the test module's."""
    async for client in opened(app, create(app), authorization=f"Bearer {app.token.reveal()}"):
        yield client
