"""Routes of servers: what providers show, compared with the books; and the machines that they tell."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from pipeline.api.inventories import DiffView
from pipeline.api.views import Wish
from pipeline.bootstrap import Application
from pipeline.domain.drift import Drift, Row
from pipeline.domain.inventory import Inventory


class AlertView(BaseModel):
    drift: Drift
    text: str
    action: str = Field(description="the command that is safe to give; empty: there is nothing to do")


class ServerView(BaseModel):
    """A server, the node that it is meant to be, or both; `id` is empty where there is no server."""

    provider: str
    id: str
    address: str
    hostname: str
    environment: str
    role: str
    service: str
    project: str
    hardware: list[str] = Field(description="the flavor, and the hardware types of its machine")
    zone: str
    machine: str
    state: str = Field(description="the server's; the node's where there is no server")
    created_at: float
    alerts: list[AlertView]
    seen_at: float

    @classmethod
    def of(cls, provider: str, row: Row, seen_at: float, inventory: Inventory) -> ServerView:
        server, node = row.server, row.node
        machine = (server.machine if server else "") or (node.machine if node else "")
        aggregates = next((one.aggregates for one in inventory.machines if one.name == machine), ())
        return cls(
            provider=provider,
            id=server.id if server else "",
            address=(server.address if server else "") or (node.address or "" if node else ""),
            hostname=server.name if server else node.name if node else "",
            environment=row.environment,
            role=node.role if node else "",
            service=row.service,
            project=row.project,
            hardware=[*([server.flavor] if server and server.flavor else []), *aggregates],
            zone=(server.zone if server else "") or (node.zone if node else ""),
            machine=machine,
            state=server.status if server else str(node.state) if node else "",
            created_at=server.created_at if server else 0.0,
            alerts=[AlertView.model_validate(vars(alert)) for alert in row.alerts],
            seen_at=seen_at,
        )


class SurveyView(BaseModel):
    """When a provider was looked at; `fault`: why the look at `tried_at` failed, if it did."""

    at: float
    tried_at: float
    fault: str
    servers: int
    alerts: int
    tells_machines: bool


class ProviderView(BaseModel):
    name: str
    driver: str
    machines: int
    survey: SurveyView | None


class NewSync(Wish):
    """`dry_run`: say what would change, and change nothing."""

    dry_run: bool = False


def router(app: Application) -> APIRouter:
    routes = APIRouter(tags=["servers"])

    @routes.get("/servers", summary="Servers and nodes as they were last seen, and what is not as the books say")
    def servers(provider: str = "", project: str = "", alerts: bool = False) -> list[ServerView]:
        names = [app.provider(provider).name] if provider else list(app.settings.providers)
        found = [view for name in names for view in _servers(app, name)]
        return [one for one in found if project in {"", one.project} and (one.alerts or not alerts)]

    @routes.get("/providers", summary="The providers, and when each was last looked at")
    def providers() -> list[ProviderView]:
        return [_provider(app, name) for name in app.settings.providers]

    @routes.get("/providers/{name}", summary="One provider")
    def provider(name: str) -> ProviderView:
        return _provider(app, app.provider(name).name)

    @routes.post("/providers/{name}/survey", status_code=202, summary="Let a worker look at a provider now")
    def survey(name: str) -> ProviderView:
        app.surveys.ask(name)
        return _provider(app, name)

    @routes.post("/providers/{name}/sync", summary="Put the machines in force that the last survey saw, or a file says")
    def sync(name: str, wish: NewSync) -> DiffView:
        app.provider(name)
        seen = app.surveys.seen(name)
        told = DiffView.of(name, app.preview_inventory(name, seen), len(seen.machines))
        if not wish.dry_run:
            app.surveys.take_over(name)
        return told

    return routes


def _servers(app: Application, provider: str) -> list[ServerView]:
    survey = app.surveys.last(provider)
    if survey is None:
        return []
    inventory = app.inventories.view(provider).inventory
    return [ServerView.of(provider, row, survey.at, inventory) for row in survey.rows]


def _provider(app: Application, name: str) -> ProviderView:
    survey = app.surveys.last(name)
    shown = survey and SurveyView(
        at=survey.at,
        tried_at=survey.tried_at,
        fault=survey.fault,
        servers=sum(row.server is not None for row in survey.rows),
        alerts=sum(bool(row.alerts) for row in survey.rows),
        tells_machines=survey.inventory is not None,
    )
    machines = len(app.inventories.view(name).inventory.machines)
    return ProviderView(name=name, driver=app.settings.providers[name].driver, machines=machines, survey=shown)
