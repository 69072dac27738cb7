"""Routes of acts on clouds, and of what hangs about there: asked for, and looked at until a worker has done it."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import Reasoned
from pipeline.bootstrap import Application
from pipeline.domain.cloud_acts import CloudAct, ObjectKind, Verb
from pipeline.domain.leftovers import Finding, Leftover, ThingKind
from pipeline.domain.moving_off import AT_ONCE, MOST_AT_ONCE, How, Move, MoveState, Policy
from pipeline.envs.books import LeftoverReport


class NewCloudAct(Reasoned):
    """`name` is the object's name or its id in the cloud."""

    verb: Verb
    kind: ObjectKind
    name: str = Field(min_length=1, max_length=255)
    policy: Policy = Field(Policy.DISABLE, description="of `take-out`: what becomes of the servers on the machine")
    at_once: int = Field(AT_ONCE, ge=1, le=MOST_AT_ONCE, description="how many servers move at a time")


class MoveView(BaseModel):
    """A server on its way off a machine."""

    server: str
    name: str
    project: str = Field(description="the cloud's")
    state: MoveState
    how: How | None
    to: str = Field(description="the machine where it was seen in the end")
    fault: str = Field(description="why it stays: the cloud's own words, or the guard's")

    @classmethod
    def of(cls, move: Move) -> MoveView:
        return cls(**{name: getattr(move, name) for name in cls.model_fields})


class CloudActView(BaseModel):
    """An act, finished or not; kept for a week."""

    id: str
    provider: str
    verb: Verb
    kind: ObjectKind
    name: str
    who: str
    why: str
    dry_run: bool
    asked_at: float
    finished_at: float | None
    outcome: str
    refused: str = Field(description="the guard that refused it; empty: none did")
    fault: str = Field(description="why nothing, or not all of it, was done")
    left: list[str] = Field(description="what is still on a machine")
    policy: Policy
    at_once: int
    moves: list[MoveView] = Field(description="the servers that leave a machine")

    @classmethod
    def of(cls, act: CloudAct) -> CloudActView:
        shown = {name: getattr(act, name) for name in cls.model_fields if name not in {"left", "moves"}}
        return cls(**shown, left=list(act.left), moves=[MoveView.of(move) for move in act.moves])


class LeftoverView(BaseModel):
    """An object that hangs about; `environment` and `deployment` are its mark, if it has one."""

    kind: ThingKind
    id: str
    name: str
    project: str = Field(description="the cloud's")
    deployment: str
    environment: str
    finding: Finding
    text: str
    action: str = Field(description="the command that is safe to give; empty: there is nothing to do")
    since: float = Field(description="when it was first seen so")

    @classmethod
    def of(cls, one: Leftover) -> LeftoverView:
        thing = one.thing
        return cls(
            kind=thing.kind,
            id=thing.id,
            name=thing.name,
            project=thing.project,
            deployment=thing.deployment,
            environment=thing.environment_id,
            finding=one.finding,
            text=one.text,
            action=one.action,
            since=one.since,
        )


class LeftoversView(BaseModel):
    """What the look at `at` found (0: there was none yet); `fault`: why the one at `tried_at` failed, if it did."""

    provider: str
    at: float
    tried_at: float
    fault: str
    found: list[LeftoverView]

    @classmethod
    def of(cls, provider: str, report: LeftoverReport) -> LeftoversView:
        found = [LeftoverView.of(one) for one in report.found]
        return cls(provider=provider, at=report.at, tried_at=report.tried_at, fault=report.fault, found=found)


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["servers"])

    @routes.post("/providers/{name}/acts", status_code=202, summary="Let a worker change something of a cloud itself")
    def ask(name: str, wish: NewCloudAct) -> CloudActView:
        provider = app.provider(name).name
        asked = app.cloud_acts.ask(provider, wish.verb, wish.kind, wish.name, wish.asking(), wish.policy, wish.at_once)
        return CloudActView.of(asked)

    @routes.get("/acts/{id}", summary="An act on a cloud, finished or not")
    def act(id: str) -> CloudActView:
        return CloudActView.of(app.books.cloud_acts.get(id).value)

    @routes.get("/providers/{name}/leftovers", summary="What hung about in a cloud when it was last looked for")
    def leftovers(name: str) -> LeftoversView:
        return LeftoversView.of(name, app.leftovers.last(app.provider(name).name))

    @routes.post("/providers/{name}/leftovers", status_code=202, summary="Let a worker look for leftovers now")
    def seek(name: str) -> LeftoversView:
        app.leftovers.ask(name)
        return LeftoversView.of(name, app.leftovers.last(name))

    return routes
