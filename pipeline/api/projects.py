"""Routes of projects and their triggers."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Query

from pipeline.api.project_views import (
    AddedProject,
    HookAccess,
    HookWish,
    NewProject,
    NewRules,
    ProjectView,
    ProjectWish,
    RemovedProject,
    RulesView,
    RuleView,
)
from pipeline.api.views import Page, TriggerView
from pipeline.bootstrap import Application
from pipeline.domain.errors import UserError
from pipeline.domain.projects import Project, ProjectChange
from pipeline.domain.triggers import repository_refusal
from pipeline.envs.gate import Asking
from pipeline.ports.common import Secret
from pipeline.stages.control import BY_HAND

Limit = Annotated[int, Query(ge=1, le=200)]
Offset = Annotated[int, Query(ge=0, le=2**53)]


def hook_url(app: Application, project: str) -> str:
    """Where deliveries go: the hooks' listener, by the public name of this machine when it listens everywhere."""
    host, _, port = app.settings.hooks_bind.rpartition(":")
    if host in {"", "0.0.0.0", "[::]"}:  # noqa: S104  # compared with, not bound to
        host = urlsplit(app.settings.public_url).hostname or "127.0.0.1"
    return f"http://{host}:{port}/v1/hooks/{project}"


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["projects"])
    _projects(app, routes)
    _changes(app, routes)
    _rules(app, routes)
    _triggers(app, routes)
    return routes


def _projects(app: Application, routes: APIRouter) -> None:
    @routes.post("/projects", status_code=201, summary="Add a project")
    def add(new: NewProject) -> AddedProject:
        refused = repository_refusal(new.repository) if new.repository else None
        if refused:
            raise UserError(refused)
        if new.provider:
            app.provider(new.provider)
        project, secret = app.projects.add(
            new.name,
            repository=new.repository,
            provider=new.provider,
            api_url=new.api_url,
            forge_token=Secret(new.forge_token) if new.forge_token else None,
            hook_secret=Secret(new.hook_secret) if new.hook_secret else None,
        )
        view = ProjectView.of(app.projects.overview(project.name))
        return AddedProject(project=view, hook_secret=secret.reveal(), hook_url=hook_url(app, new.name))

    @routes.get("/projects", summary="All projects, with what each has in use")
    def all_projects() -> list[ProjectView]:
        return [ProjectView.of(overview) for overview in app.projects.overviews()]

    @routes.get("/projects/{name}", summary="One project, with its quota and what is in use of it")
    def one(name: str) -> ProjectView:
        return ProjectView.of(app.projects.overview(name))

    @routes.post("/projects/{name}/hook-secret", summary="Show where and how deliveries are to be signed")
    def hook_access(name: str, wish: HookWish | None = None) -> HookAccess:
        if wish is not None and wish.local_repository:
            app.projects.allow_local(name, wish.local_repository)
        return HookAccess(hook_secret=app.projects.hook_secret(name).reveal(), hook_url=hook_url(app, name))


def _triggers(app: Application, routes: APIRouter) -> None:
    @routes.get("/triggers", summary="Triggers, newest first")
    def triggers(project: str = "", limit: Limit = 50, offset: Offset = 0) -> Page[TriggerView]:
        index = f"triggers:project:{project}" if project else "triggers"
        found = app.books.triggers.in_index(index, limit=limit + 1, offset=offset, newest_first=True)
        return Page[TriggerView].of([TriggerView.of(loaded.value) for loaded in found], offset, limit)

    @routes.get("/triggers/{id}", summary="What became of a trigger")
    def trigger(id: str) -> TriggerView:
        return TriggerView.of(app.books.triggers.get(id).value)


def _changes(app: Application, routes: APIRouter) -> None:
    @routes.patch("/projects/{name}", summary="Change what a project may use")
    def change(name: str, wish: ProjectWish) -> ProjectView:
        if wish.provider:
            app.provider(wish.provider)
        app.projects.change(
            name,
            ProjectChange(
                wish.quota or {},
                wish.quota is None,
                wish.max_runs,
                wish.weight,
                wish.provider,
                ttl=wish.ttl,
                most_ttl=wish.most_ttl,
                key_forges=None if wish.key_forges is None else tuple(wish.key_forges),
            ),
        )
        return ProjectView.of(app.projects.overview(name))

    @routes.delete("/projects/{name}", summary="Remove a project that has no runs and environments any more")
    def remove(name: str, dry_run: bool = False) -> RemovedProject:
        app.projects.remove(name, Asking(BY_HAND, "removed by hand", dry_run=dry_run))
        return RemovedProject(name=name, removed=not dry_run)


def _rules(app: Application, routes: APIRouter) -> None:
    @routes.get("/projects/{name}/rules", summary="The rules that a project lays on all its environments")
    def rules(name: str) -> RulesView:
        return _rules_view(app, app.books.projects.get(name).value)

    @routes.put("/projects/{name}/rules", summary="Lay rules on all environments of a project, in place of its others")
    def lay(name: str, new: NewRules) -> RulesView:
        laid = app.read_rules(name, new.rules)
        return _rules_view(app, app.projects.change(name, ProjectChange(rules=laid)))


def _rules_view(app: Application, project: Project) -> RulesView:
    warnings = app.unknown_names(project.rules)
    return RulesView(rules=[RuleView.of(rule) for rule in project.rules], warnings=warnings)
