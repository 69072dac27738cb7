"""Routes of commands on an environment's nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pipeline.api import streams
from pipeline.api.projects import Offset
from pipeline.api.requests import Duration, duration
from pipeline.api.views import Wish
from pipeline.bootstrap import Application
from pipeline.domain.errors import NotFound
from pipeline.envs.books import Command


class NewCommand(Wish):
    """`on` is a role, a node (`web[0]`), or `all`. The text is kept with its output: no place for secrets."""

    command: str = Field(min_length=1, max_length=16 * 1024)
    on: str = Field(default="all", max_length=100)
    timeout: Duration = "10m"


class CommandView(BaseModel):
    id: str
    environment: str
    nodes: tuple[str, ...]
    command: str
    asked_at: float
    finished_at: float | None
    statuses: dict[str, int] = Field(description="exit status by node, of those that are done")
    exit_status: int | None = Field(description="the first that is not 0, else 0; null until it is finished")
    fault: str = Field(description="why it could not be run everywhere, if so")
    links: dict[str, str]

    @classmethod
    def of(cls, one: Command) -> CommandView:
        own = f"/v1/commands/{one.id}"
        return cls(
            id=one.id,
            environment=one.environment,
            nodes=one.nodes,
            command=one.text,
            asked_at=one.asked_at,
            finished_at=one.finished_at,
            statuses=dict(one.statuses),
            exit_status=one.exit_status,
            fault=one.fault,
            links={"self": own, "output": f"{own}/output"},
        )


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["environments"])

    @routes.post("/environments/{id}/run", status_code=202, summary="Run a command on its nodes, one after the other")
    def run(id: str, new: NewCommand) -> CommandView:
        return CommandView.of(app.commands.ask(id, new.on, new.command, duration("timeout", new.timeout)))

    @routes.get("/commands/{id}", summary="What came of a command; kept for a week")
    def command(id: str) -> CommandView:
        return CommandView.of(app.commands.get(id))

    @routes.get("/commands/{id}/output", summary="Its output as it comes (server-sent events)")
    async def output(id: str, offset: Offset = 0) -> StreamingResponse:
        one = await asyncio.to_thread(app.commands.get, id)
        return streams.response(_output(app, one, offset))

    return routes


async def _output(app: Application, command: Command, offset: int) -> AsyncIterator[bytes]:
    """The output once a worker has begun; the last event is `end`."""

    def is_over() -> bool:
        return app.commands.get(command.id).finished_at is not None

    while not await asyncio.to_thread(_has_begun, app, command):
        if await asyncio.to_thread(is_over):
            yield streams.message("end", {}, str(offset))
            return
        await asyncio.sleep(streams.LOG_POLL_S)
    async for piece in streams.log_lines(app.logs, command.environment, command.id, offset, is_over):
        yield piece


def _has_begun(app: Application, command: Command) -> bool:
    try:
        app.logs.read(command.environment, command.id, 0, 1)
    except NotFound:
        return False
    return True
