"""What intake is compared with: a bare `async def` route with one write of the same payload."""

from __future__ import annotations

import itertools
import sys

import redis.asyncio
import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse


def application(socket: str) -> FastAPI:
    client = redis.asyncio.Redis(unix_socket_path=socket)
    counter = itertools.count()
    app = FastAPI()

    @app.post("/bare")
    async def bare(request: Request) -> JSONResponse:
        await client.set(f"bare:{next(counter)}", await request.body())
        return JSONResponse({"status": "ok"}, status_code=202)

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), host="127.0.0.1", port=int(sys.argv[2]), log_level="info", access_log=False)
