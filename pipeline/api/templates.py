"""Routes of templates."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.views import Wish
from pipeline.bootstrap import Application
from pipeline.envs.books import Template
from pipeline.envs.gate import Asking
from pipeline.envs.templates import LIMIT
from pipeline.stages.control import BY_HAND


class NewTemplate(Wish):
    """The text of a greenroom.yml."""

    blueprint: str = Field(min_length=1, max_length=LIMIT)


class TemplateView(BaseModel):
    name: str
    blueprint: str
    created_at: float
    changed_at: float

    @classmethod
    def of(cls, one: Template) -> TemplateView:
        return cls(name=one.name, blueprint=one.text, created_at=one.created_at, changed_at=one.changed_at)


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["templates"])

    @routes.get("/templates", summary="All templates")
    def templates() -> list[TemplateView]:
        return [TemplateView.of(one) for one in app.templates.all()]

    @routes.get("/templates/{name}", summary="One template")
    def template(name: str) -> TemplateView:
        return TemplateView.of(app.templates.get(name))

    @routes.put("/templates/{name}", summary="Keep a blueprint under a name, in place of the one that had it")
    def keep(name: str, new: NewTemplate) -> TemplateView:
        return TemplateView.of(app.templates.keep(name, new.blueprint))

    @routes.delete("/templates/{name}", summary="Forget a template; what was made of it stays")
    def forget(name: str, dry_run: bool = False) -> TemplateView:
        return TemplateView.of(app.templates.forget(name, Asking(BY_HAND, "forgotten by hand", dry_run=dry_run)))

    return routes
