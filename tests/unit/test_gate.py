"""The gate of the API: who may come in, and how much may be sent."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI, Request

from pipeline.api import problems
from pipeline.api.gate import LIMIT_BYTES, Gate
from pipeline.ports.common import Secret

TOKEN = {"authorization": "Bearer t0ken"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    api = FastAPI(openapi_url=None)
    problems.install(api)
    api.add_middleware(Gate, token=Secret("t0ken"), token_file="/srv/token")

    @api.api_route("/{path:path}", methods=["GET", "POST"])
    async def anything(path: str, request: Request) -> int:
        return len(await request.body())

    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://greenroom.test") as client:
        yield client


@pytest.mark.parametrize(
    "path",
    ["/", "/v1/runs", "/docs", "/openapi.json", "/metrics", "/healthz/", "/readyz/x", "/v1/hooks", "//v1/hooks/x"],
)
async def test_nothing_is_open_that_is_not_named(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(f"http://greenroom.test{path}")
    assert (answer.status_code, answer.json()["type"]) == (401, "unauthenticated")
    assert (await client.get(f"http://greenroom.test{path}", headers=TOKEN)).status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/v1/hooks/shop"])
async def test_health_and_hooks_are_open(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(path)).status_code == 200


async def test_a_stranger_is_refused_before_the_body_is_read(client: httpx.AsyncClient) -> None:
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        read += 1
        yield b"{"

    answer = await client.post("/v1/runs", content=pieces())
    assert (answer.status_code, read) == (401, 0)


async def test_a_body_of_the_limit_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/runs", content=b"x" * LIMIT_BYTES, headers=TOKEN)
    assert answer.json() == LIMIT_BYTES


@pytest.mark.parametrize("announced", [True, False])
async def test_a_larger_body_is_refused(client: httpx.AsyncClient, announced: bool) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * (LIMIT_BYTES // 2)

    content = b"x" * (LIMIT_BYTES + 1) if announced else pieces()
    answer = await client.post("/v1/runs", content=content, headers=TOKEN)
    assert (answer.status_code, answer.json()["type"]) == (413, "too-large")


@pytest.mark.parametrize("length", ["9" * 5000, "x", "-1", "²"])
async def test_a_length_that_is_none_is_refused(client: httpx.AsyncClient, length: str) -> None:
    headers = {**TOKEN, "content-length": length.encode("latin-1")}
    answer = await client.post("/v1/runs", content=b"", headers=headers)  # type: ignore[arg-type]  # bytes are taken, too
    assert answer.status_code == 413
