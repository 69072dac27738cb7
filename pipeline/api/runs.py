"""Routes of runs: started, watched, ended, done again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response, StreamingResponse

from pipeline.api import streams
from pipeline.api.projects import Limit, Offset
from pipeline.api.views import (
    EventView,
    FileView,
    Guarded,
    LogView,
    NewRun,
    Page,
    ReportView,
    Rerun,
    RunView,
    SshAccess,
    SshNode,
    TriggerView,
)
from pipeline.bootstrap import Application
from pipeline.domain.errors import UserError
from pipeline.domain.runs import STAGES, Run, RunState, StageName
from pipeline.domain.triggers import ref_refusal, repository_refusal
from pipeline.stages.control import CANCELLED, failed_stage

#: A position in a run's events, as the store gave it.
POSITION = r"^([0-9]{1,19}-[0-9]{1,19})?$"
Position = Annotated[str, Query(pattern=POSITION)]


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["runs"])
    _acts(app, routes)
    _views(app, routes)
    _events(app, routes)
    _logs(app, routes)
    _files(app, routes)
    return routes


def _acts(app: Application, routes: APIRouter) -> None:
    @routes.post("/runs", status_code=202, summary="Start a run; the answer is its trigger")
    def start(new: NewRun) -> TriggerView:
        project = app.books.projects.get(new.project).value
        repository = new.repository or project.repository
        if not repository:
            raise UserError(f"project {new.project} has no repository of its own; name one")
        refused = repository_refusal(repository) or ref_refusal(new.ref)
        if refused:
            raise UserError(refused)
        return TriggerView.of(app.control.submit(new.project, repository, new.ref, new.ref, "api"))

    @routes.post("/runs/{id}/cancel", status_code=202, summary="End a run by way of its destroy stage")
    def cancel(id: str, wish: Guarded) -> RunView:
        return RunView.of(app.control.cancel(id, wish.asking(CANCELLED)))

    @routes.post("/runs/{id}/rerun", status_code=202, summary="Run the same commit again")
    def rerun(id: str, wish: Rerun) -> RunView:
        first = failed_stage(_run(app, id)) if wish.first == "failed" else wish.first
        return RunView.of(app.control.rerun(id, first))

    @routes.post("/runs/{id}/release", status_code=202, summary="Give back the nodes that are held for a run")
    def release(id: str, wish: Guarded | None = None) -> RunView:
        return RunView.of(app.control.release(id, (wish or Guarded()).asking(f"given back by hand after {id}")))

    @routes.post("/runs/{id}/ssh", summary="Addresses, host keys and the key of a run's nodes")
    def ssh(id: str) -> SshAccess:
        access = app.control.give_access(id)
        nodes = [SshNode.model_validate(vars(node)) for node in access.nodes]
        return SshAccess(environment=access.environment_id, private_key=access.private_key.reveal(), nodes=nodes)


def _views(app: Application, routes: APIRouter) -> None:
    @routes.get("/runs", summary="Runs, newest first")
    def runs(project: str = "", limit: Limit = 50, offset: Offset = 0) -> Page[RunView]:
        index = f"runs:project:{project}" if project else "runs"
        found = app.books.runs.in_index(index, limit=limit + 1, offset=offset, newest_first=True)
        return Page[RunView].of(_shown(app, [loaded.value for loaded in found]), offset, limit)

    @routes.get("/runs/{id}", summary="One run")
    def run(id: str) -> RunView:
        return _shown(app, [_run(app, id)])[0]

    @routes.get("/runs/{id}/tests", summary="Test cases of a run, report by report")
    def tests(id: str) -> list[ReportView]:
        _run(app, id)
        found = ((name, app.books.reports.find(name)) for name in app.store.index(f"reports:{id}"))
        return [ReportView.of(name.removeprefix(f"{id}."), loaded.value) for name, loaded in found if loaded]


def _events(app: Application, routes: APIRouter) -> None:
    @routes.get("/runs/{id}/history", summary="Events of a run so far")
    def history(id: str, after: Position = "") -> list[EventView]:
        _run(app, id)
        return [
            EventView(position=event.position, type=event.type, at=event.at, data=dict(event.data))
            for event in app.store.events(id, after=after)
        ]

    @routes.get("/runs/{id}/events", summary="Events of a run as they come (server-sent events)")
    async def events(
        id: str, last_event_id: Annotated[str, Header(pattern=POSITION)] = "", after: Position = ""
    ) -> StreamingResponse:
        run, position = await asyncio.to_thread(_run, app, id), last_event_id or after
        if run.state is RunState.FINISHED:
            past = await asyncio.to_thread(app.store.events, id, after=position)
            return streams.response(streams.past_events(past))
        return streams.response(streams.run_events(app.async_store, id, position))


def _logs(app: Application, routes: APIRouter) -> None:
    @routes.get("/runs/{id}/logs", summary="Logs of a run")
    def logs(id: str) -> list[LogView]:
        _run(app, id)
        return [
            LogView(name=log.name, size=log.size, complete=app.logs.complete(id, log.name)) for log in app.logs.logs(id)
        ]

    @routes.get("/runs/{id}/logs/{name}", summary="One log, from an offset")
    def log(id: str, name: str, offset: Offset = 0) -> Response:
        first = app.logs.read(id, name, offset, streams.PIECE)
        return StreamingResponse(_rest(app, id, name, offset, first), media_type="text/plain; charset=utf-8")

    @routes.get("/runs/{id}/logs/{name}/follow", summary="One log as it grows (server-sent events)")
    async def follow(id: str, name: str, offset: Offset = 0) -> StreamingResponse:
        await asyncio.to_thread(app.logs.read, id, name, 0, 1)
        return streams.response(streams.log_lines(app.logs, id, name, offset, lambda: _log_is_over(app, id, name)))


def _files(app: Application, routes: APIRouter) -> None:
    @routes.get("/runs/{id}/artifacts", summary="Artifacts of a run")
    def artifacts(id: str) -> list[FileView]:
        _run(app, id)
        return [FileView(name=file.name, size=file.size) for file in app.logs.artifacts(id)]

    @routes.get("/runs/{id}/artifacts/{name:path}", summary="One artifact")
    def artifact(id: str, name: str) -> StreamingResponse:
        content = app.logs.open_artifact(id, name)
        first = next(content, b"")  # what is missing is told before the answer begins
        return StreamingResponse(chain([first], content), media_type="application/octet-stream")


def _log_is_over(app: Application, id: str, name: str) -> bool:
    """Whether nothing is added any more: a worker that was killed did not close its log."""
    if app.logs.complete(id, name):
        return True
    run = _run(app, id)
    stage, _, number = name.partition(".")[0].rpartition("-")
    attempts = run.stage(StageName(stage)).attempts if stage in STAGES else ()
    over = any(str(attempt.number) == number and not attempt.open for attempt in attempts)
    return over or run.state is RunState.FINISHED


def _rest(app: Application, id: str, name: str, offset: int, piece: bytes) -> Iterator[bytes]:
    while piece:
        yield piece
        offset += len(piece)
        piece = app.logs.read(id, name, offset, streams.PIECE)


def _shown(app: Application, found: Sequence[Run]) -> list[RunView]:
    """Runs, with how those wait that do."""
    ids = [run.environment_id for run in found if run.awaits_environment]
    environments = {one.value.id: one.value for one in app.books.environments.many(ids)} if ids else {}
    return [RunView.of(run, environments.get(run.environment_id)) for run in found]


def _run(app: Application, id: str) -> Run:
    return app.books.runs.get(id).value
