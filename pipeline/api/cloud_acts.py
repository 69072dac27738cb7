"""Routes of acts on clouds: asked for, and looked at until a worker has carried them out."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import Reasoned
from pipeline.bootstrap import Application
from pipeline.domain.cloud_acts import CloudAct, ObjectKind, Verb


class NewCloudAct(Reasoned):
    """`name` is the object's name or its id in the cloud."""

    verb: Verb
    kind: ObjectKind
    name: str = Field(min_length=1, max_length=255)


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

    @classmethod
    def of(cls, act: CloudAct) -> CloudActView:
        shown = {name: getattr(act, name) for name in cls.model_fields if name != "left"}
        return cls(**shown, left=list(act.left))


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["servers"])

    @routes.post("/providers/{name}/acts", status_code=202, summary="Let a worker change something of a cloud itself")
    def ask(name: str, wish: NewCloudAct) -> CloudActView:
        provider = app.provider(name).name
        return CloudActView.of(app.cloud_acts.ask(provider, wish.verb, wish.kind, wish.name, wish.asking()))

    @routes.get("/acts/{id}", summary="An act on a cloud, finished or not")
    def act(id: str) -> CloudActView:
        return CloudActView.of(app.books.cloud_acts.get(id).value)

    return routes
