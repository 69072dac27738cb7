"""Routes of environments on request: asked for, watched, kept longer, given back."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Header, Response
from pydantic import BaseModel, Field
from starlette.responses import StreamingResponse

from pipeline.api import streams
from pipeline.api.runs import POSITION, Position
from pipeline.api.views import EnvironmentView, Guarded, LogView, NodeView, SshAccess, SshNode, Wish
from pipeline.bootstrap import Application
from pipeline.domain.contracts import LONGEST_KEY, MOST_KEYS
from pipeline.domain.durations import parse_duration, parse_positive_duration
from pipeline.domain.environments import Environment
from pipeline.domain.errors import UserError
from pipeline.domain.moves import KEEP_S
from pipeline.envs.templates import LIMIT
from pipeline.stages.control import BY_HAND
from pipeline.stages.moving import MoveWish
from pipeline.stages.requests import Answer, Request

#: Nodes of one role; any provider takes fewer.
MOST_COUNT = 10_000
GIVEN_BACK = "given back by its requester"
#: Names one request, so that it may be sent again (draft-ietf-httpapi-idempotency-key-header).
Repeat = Annotated[str, Header(alias="Idempotency-Key", max_length=200)]
Duration = Annotated[str, Field(min_length=2, max_length=40, description="such as 30m or 1h30m")]


class NewEnvironment(Wish):
    """Exactly one of `blueprint` (the text of a greenroom.yml), `template`, or neither: then the greenroom.yml of `ref`
    is taken. `repository` is the project's, where it is left out; `ref` its HEAD. Without `public_keys` and
    `ssh_keys_from` a key is made.
    """

    project: str
    blueprint: str = Field(default="", max_length=LIMIT)
    template: str = ""
    repository: str = ""
    ref: str = ""
    name: str = Field(default="", description="another word for its id, while it lives")
    owner: str = Field(default=BY_HAND, min_length=1, max_length=100, pattern=r"^[ -~]*$")
    why: str = Field(default="", max_length=500)
    ttl: Duration | None = None
    public_keys: list[Annotated[str, Field(max_length=LONGEST_KEY)]] = Field(default=[], max_length=MOST_KEYS)
    ssh_keys_from: str = Field(
        default="", max_length=300, description="`USER` or `HOST/USER` at a forge from which the project may take keys"
    )

    def request(self, repeat: str) -> Request:
        """The wish; the same wish has the same `body`, however its JSON was written."""
        body = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        fields = self.model_dump(exclude={"ttl", "public_keys", "ssh_keys_from"})
        ttl_s = None if self.ttl is None else duration("ttl", self.ttl)
        keys, keys_of = tuple(self.public_keys), self.ssh_keys_from
        return Request(**fields, ttl_s=ttl_s, keys=keys, keys_of=keys_of, repeat=repeat, body=body)


class NewEnvironmentView(EnvironmentView):
    """`private_key`: the one that was made, in this answer alone; null where keys were given, and when asked again."""

    private_key: str | None = None

    @classmethod
    def answer(cls, answer: Answer) -> NewEnvironmentView:
        key = answer.private_key.reveal() if answer.private_key is not None else None
        return cls(**EnvironmentView.of(answer.environment).model_dump(), private_key=key)


class Extension(Wish):
    """By how much longer it is to live."""

    by: Duration


class HoldWish(Wish):
    """For how long from now at least, and why."""

    duration: Duration = Field(alias="for")
    reason: str = Field(min_length=1, max_length=500)


class Protection(Wish):
    """Why it is to be protected; nothing: it is not any more."""

    reason: str = Field(default="", max_length=500)


class ScaleWish(Guarded):
    """How many nodes of a role there are to be; those that go are out of traffic for `drain` before."""

    role: str = Field(min_length=1, max_length=100)
    count: int = Field(ge=0, le=MOST_COUNT)
    drain: Annotated[str, Field(max_length=40, description="such as 10s; 0s: they go at once")] | None = None

    @property
    def drain_s(self) -> float | None:
        return None if self.drain is None else span("drain", self.drain)


class MoveBody(Guarded):
    """Where a role is to go; its old nodes drain for `drain`, and stand without traffic for `keep` more."""

    role: str = Field(min_length=1, max_length=100)
    to: str = Field(max_length=200, description="bare-metal, vm, zone=NAME or aggregate=NAME")
    drain: Annotated[str, Field(max_length=40, description="such as 10s; 0s: they go at once")] | None = None
    keep: Annotated[str, Field(max_length=40, description="such as 5m, which is the default")] | None = None

    @property
    def wish(self) -> MoveWish:
        drain_s = None if self.drain is None else span("drain", self.drain)
        return MoveWish(self.role, self.to, drain_s, KEEP_S if self.keep is None else span("keep", self.keep))


class MoveBack(Guarded):
    """The role that is to stay where it was."""

    role: str = Field(min_length=1, max_length=100)


class AddressView(BaseModel):
    """Its own name below the deployment's base domain."""

    host: str
    url: str
    ip: str = Field(description="what a DNS record of the host names; empty: where the router listens, as all hosts")
    up: int = Field(description="so many of its nodes answer the router's health checks")
    targets: int = Field(description="of so many that get requests; 0: the host leads nowhere now")


class EnvironmentLogView(LogView):
    """`url`: where its text is; with `/follow` it is sent as it grows."""

    url: str


def duration(name: str, text: str) -> float:
    """Seconds of a duration of more than nothing; UserError names the field."""
    return _parsed(name, text, parse_positive_duration)


def span(name: str, text: str) -> float:
    """The same, where 0 makes sense, too."""
    return _parsed(name, text, parse_duration)


def _parsed(name: str, text: str, parse: Callable[[str], float]) -> float:
    try:
        return parse(text)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from error


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["environments"])
    _ask(app, routes)
    _time(app, routes)
    _scale(app, routes)
    _move(app, routes)
    _end(app, routes)
    _parts(app, routes)
    _events(app, routes)
    return routes


def _ask(app: Application, routes: APIRouter) -> None:
    @routes.post(
        "/environments",
        status_code=202,
        summary="Ask for an environment; 201 with one that a warm pool kept ready",
        responses={201: {"model": NewEnvironmentView, "description": "It is ready, with the keys on every node"}},
    )
    def make(new: NewEnvironment, response: Response, repeat: Repeat = "") -> NewEnvironmentView:
        answer = app.requests.make(new.request(repeat))
        response.headers["location"] = f"/v1/environments/{answer.environment.id}"
        response.headers["cache-control"] = "no-store"
        if answer.from_pool:
            response.status_code = 201
        if answer.repeated:
            response.headers["idempotent-replayed"] = "true"
        return NewEnvironmentView.answer(answer)


def _time(app: Application, routes: APIRouter) -> None:
    @routes.post("/environments/{id}/extend", summary="Let it live longer, within its project's maximum")
    def extend(id: str, wish: Extension) -> EnvironmentView:
        return EnvironmentView.of(app.leases.extend(id, duration("by", wish.by)))

    @routes.post("/environments/{id}/hold", summary="Keep it at least for a time, whoever else needs its room")
    def hold(id: str, wish: HoldWish) -> EnvironmentView:
        return EnvironmentView.of(app.leases.hold(id, duration("for", wish.duration), wish.reason))

    @routes.post("/environments/{id}/protect", summary="Let nothing end it, its time included, or lift that")
    def protect(id: str, wish: Protection) -> EnvironmentView:
        return EnvironmentView.of(app.leases.protect(id, wish.reason))


def _scale(app: Application, routes: APIRouter) -> None:
    @routes.post("/environments/{id}/scale", status_code=202, summary="Bring a role to so many nodes")
    def scale(id: str, wish: ScaleWish) -> EnvironmentView:
        asking = wish.asking(f"{wish.role} to {wish.count}")
        return EnvironmentView.of(app.scale.scale(id, wish.role, wish.count, asking, wish.drain_s))


def _move(app: Application, routes: APIRouter) -> None:
    @routes.post("/environments/{id}/move", status_code=202, summary="Let a role go to other machines while it serves")
    def move(id: str, body: MoveBody) -> EnvironmentView:
        return EnvironmentView.of(app.moving.move(id, body.wish, body.asking(f"{body.role} to {body.to}")))

    @routes.post("/environments/{id}/move/back", status_code=202, summary="Let the old nodes of a moved role serve on")
    def back(id: str, body: MoveBack) -> EnvironmentView:
        return EnvironmentView.of(app.moving.back(id, body.role, body.asking(f"{body.role} stays")))


def _end(app: Application, routes: APIRouter) -> None:
    @routes.post("/environments/{id}/release", status_code=202, summary="Give it back")
    def release(id: str, wish: Guarded | None = None) -> EnvironmentView:
        return EnvironmentView.of(app.requests.release(id, (wish or Guarded()).asking(GIVEN_BACK)))

    @routes.delete("/environments/{id}", status_code=202, summary="Give it back, as `release` without a body")
    def delete(id: str, dry_run: bool = False) -> EnvironmentView:
        return EnvironmentView.of(app.requests.release(id, Guarded(dry_run=dry_run).asking(GIVEN_BACK)))


def _parts(app: Application, routes: APIRouter) -> None:
    @routes.get("/environments/{id}/nodes", summary="Its nodes")
    def nodes(id: str) -> list[NodeView]:
        return EnvironmentView.of(_one(app, id)).nodes

    @routes.get("/environments/{id}/address", summary="Where it is reached through the router, or why it is not")
    def address(id: str) -> AddressView:
        return AddressView(**vars(app.addresses.of(id)))

    @routes.post("/environments/{id}/ssh", summary="Addresses, host keys and the environment's own key")
    def ssh(id: str) -> SshAccess:
        access = app.leases.give_access(id)
        nodes = [SshNode.model_validate(vars(node)) for node in access.nodes]
        return SshAccess(environment=id, private_key=access.private_key.reveal(), nodes=nodes)

    @routes.get("/environments/{id}/logs", summary="Logs of the run that prepares it, or that it was made for")
    def logs(id: str) -> list[EnvironmentLogView]:
        run = _one(app, id).owner
        found = app.logs.logs(run) if run else ()
        return [
            EnvironmentLogView(
                name=log.name,
                size=log.size,
                complete=app.logs.complete(run, log.name),
                url=f"/v1/runs/{run}/logs/{log.name}",
            )
            for log in found
        ]


def _events(app: Application, routes: APIRouter) -> None:
    @routes.get("/environments/{id}/events", summary="Its events as they come (server-sent events)")
    async def events(
        id: str, last_event_id: Annotated[str, Header(pattern=POSITION)] = "", after: Position = ""
    ) -> StreamingResponse:
        environment, position = await asyncio.to_thread(_one, app, id), last_event_id or after
        if environment.final:
            past = await asyncio.to_thread(app.store.events, id, after=position)
            return streams.response(streams.past_events(past))
        return streams.response(streams.environment_events(app.async_store, id, position))


def _one(app: Application, id: str) -> Environment:
    return app.books.environments.get(id).value
